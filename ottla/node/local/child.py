"""One node's process: the pipe on which it reports, and the one on which it is asked and whose closing tells it that
its supervisor is gone.

    STARTING ── ready ──▶ RUNNING ◀── SIGCONT ── SIGSTOP ──▶ PAUSED
        └── asked to stop ──┴──▶ STOPPING ──▶ STOPPED
        ends by itself ──▶ ENDED, by SIGKILL or another signal ──▶ KILLED
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ottla.core.errors import ConfigError, OttlaError
from ottla.node.questions import ASK_STANDING, STOP_TOGETHER


class NodeFailed(OttlaError):
    """A node could not start, or ended by itself."""


class State(StrEnum):
    """Of a node's process; see the module."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    KILLED = "killed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """Where a node that is ready can be reached."""

    id: int
    pid: int
    kafka: str
    grpc: str
    http: str
    dir: str


class Child:
    """One process, from its start to its end."""

    def __init__(
        self,
        number: int,
        settings: Mapping[str, object],
        kafka: Mapping[str, object],
        file: str | None,
        log_fd: int,
        *,
        before: Sequence[str] = (),
    ) -> None:
        """Starts it. `settings`: the node's fields, `kafka`: Kafka's configs, `log_fd`: where its log goes.

        `before`: a command that becomes the node's when it is done, such as `nsenter`. Raises NodeFailed without it.
        """
        self.number = number
        self.ready: RunningNode | None = None
        self.ports: dict[str, int] = {}
        self.error: OttlaError | None = None
        self.exit_code: int | None = None
        self.is_paused = self.stop_asked = self.kill_asked = self.pause_asked = False
        self.started_at = time.monotonic()
        self.standing: dict[str, object] | None = None
        self.standing_at = 0.0  # when that was told
        self._asked = False
        lifeline_fd, self._lifeline = os.pipe()
        self.status_fd, status_fd = os.pipe()
        handed = {
            "parent_pid": os.getpid(),
            "lifeline_fd": lifeline_fd,
            "status_fd": status_fd,
            "node": dict(settings),
            "kafka": dict(kafka),
            "file": file,
            "fresh": False,  # it is empty by now
        }
        try:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", "ottla.node", json.dumps(handed)],
                stdin=subprocess.DEVNULL,
                stdout=log_fd,  # standard output is the supervisor's own: it may carry --json
                stderr=log_fd,
                pass_fds=(lifeline_fd, status_fd),
                process_group=0,  # Ctrl-C in a terminal comes to the supervisor alone; it passes it on
            )
        except FileNotFoundError as error:
            os.close(self._lifeline)
            os.close(self.status_fd)
            raise NodeFailed(f"--launch: there is no command {error.filename}") from error
        finally:
            os.close(lifeline_fd)
            os.close(status_fd)
        os.set_blocking(self._lifeline, False)
        self._received = b""

    @property
    def pid(self) -> int:
        """Of the process, also when it has ended."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self.exit_code is None

    @property
    def state(self) -> State:
        """See the module."""
        code = self.exit_code
        if code is not None:
            if self.stop_asked and code != -signal.SIGKILL:
                return State.STOPPED
            return State.KILLED if code < 0 else State.ENDED
        if self.is_paused:
            return State.PAUSED
        if self.stop_asked:
            return State.STOPPING
        return State.RUNNING if self.ready else State.STARTING

    @property
    def end_was_asked(self) -> bool:
        """Whether it did not end by itself."""
        return self.stop_asked or self.kill_asked

    @property
    def end(self) -> str:
        """How it ended."""
        assert self.exit_code is not None
        if self.exit_code < 0:
            return f"killed by {signal.Signals(-self.exit_code).name}"
        return f"exit code {self.exit_code}"

    # -- what it is told

    def stop(self, *, together: bool = False) -> None:
        """Have it stop cleanly; `together`: with all others."""
        if not self.alive:
            return
        self.stop_asked = True
        if together:
            self._tell(STOP_TOGETHER)
        self._signal(signal.SIGTERM)
        if self.pause_asked:  # a process that is stopped hears of no other signal
            self.resume()

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            self.kill_asked = True
            self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it as it is; its connections stay."""
        if self.alive:
            self.pause_asked = True
            self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self.alive:
            self.pause_asked = False
            self._signal(signal.SIGCONT)

    def ask_standing(self) -> bool:
        """Have it say how it stands, unless it was asked already; False when it cannot answer now."""
        if self.state is not State.RUNNING:
            return False
        if not self._asked:
            self._asked = True
            self._tell(ASK_STANDING)
        return True

    # -- what it tells

    def read(self) -> bool:
        """Take what the node reports; False when it has ended."""
        chunk = os.read(self.status_fd, 65536)
        *lines, self._received = (self._received + chunk).split(b"\n")
        for line in lines:
            event = json.loads(line)
            match event.pop("event"):
                case "ready":
                    self.ports = event.pop("ports")
                    self.ready = RunningNode(id=self.number, pid=self._process.pid, **event)
                case "standing":
                    self._asked, self.standing, self.standing_at = False, event["standing"], time.monotonic()
                case _:
                    text = event["error"]
                    self.error = ConfigError(text) if event["is_config"] else NodeFailed(text)
        return bool(chunk)

    def look(self) -> None:
        """A child's state changed, perhaps this one's: see whether it is paused now. Its end is seen by the pipe."""
        if not self.alive or self._process.returncode is not None:
            return
        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self.is_paused = True
            elif os.WIFCONTINUED(status):
                self.is_paused = False
            else:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return

    def reap(self) -> None:
        """Wait for the process, which has ended."""
        self.exit_code = self._process.wait()
        self.is_paused = False

    def close(self) -> None:
        """Leave nothing behind."""
        if self.alive:
            self._process.kill()
            self.reap()
        if self.status_fd >= 0:
            os.close(self.status_fd)
            os.close(self._lifeline)
            self.status_fd = -1

    def _signal(self, number: int) -> None:
        self._process.send_signal(number)

    def _tell(self, message: bytes) -> None:
        try:
            os.write(self._lifeline, message)
        except (BlockingIOError, BrokenPipeError):
            return  # it is about to end, or reads nothing: then it would not answer either
