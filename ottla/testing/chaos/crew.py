"""The processes of clients of a run: begun, harmed, begun anew when they ended by themselves, and ended in order."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from ottla.testing.chaos.worker import CALM, FINISH, Task
from ottla.testing.chaos.workloads.plan import WORKERS, Role, workloads

START_S: Final = 60.0
END_S: Final = 60.0


class CrewError(RuntimeError):
    """A client process ended by itself with an error that is none of the cluster's; carries the end of its log."""


class Crew:
    """One process for each role. Use it as a context manager: at its end none of them runs."""

    def __init__(self, task: Task, directory: Path) -> None:
        self._task, self._directory = task, directory
        chosen = workloads(task.workloads)
        self._roles = [role for role in Role if any(one.actors(role) for one in chosen)]
        self._running: dict[Role, subprocess.Popen[bytes]] = {}
        self._zombies: list[subprocess.Popen[bytes]] = []
        self._histories: dict[Role, Path] = {}
        self._begun = 0

    def __enter__(self) -> "Crew":
        try:
            for role in self._roles:
                self._begin(role)
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    # -- faults

    @property
    def workers(self) -> tuple[Role, ...]:
        """Those to whom they may be done: none where no workload has work for them."""
        return tuple(role for role in WORKERS if role in self._running)

    def kill(self, role: Role) -> None:
        """As kill -9; another one begins with the same name at once."""
        self._end(self._running[role])
        self._begin(role)

    def pause(self, role: Role) -> None:
        """Stop it as it is."""
        self._running[role].send_signal(signal.SIGSTOP)

    def resume(self, role: Role) -> None:
        """Let it go on, if it is stopped."""
        self._running[role].send_signal(signal.SIGCONT)

    def haunt(self, role: Role) -> None:
        """Stop it as it is, and begin a successor of the same name: what is stopped is a zombie."""
        process = self._running[role]
        process.send_signal(signal.SIGSTOP)
        self._zombies.append(process)
        self._begin(role)

    def wake_zombies(self) -> None:
        """Let them go on: they believe that they are who they were."""
        for zombie in self._zombies:
            zombie.send_signal(signal.SIGCONT)

    def end_zombies(self) -> None:
        """Kill them, before they come with their name again."""
        for zombie in self._zombies:
            self._end(zombie)
        self._zombies.clear()

    # -- the phases

    def wait_until_working(self) -> None:
        """Return when each has written something down. Raises CrewError."""
        until = time.monotonic() + START_S
        while not all(path.exists() and path.stat().st_size > 0 for path in self._histories.values()):
            self.check()
            if time.monotonic() > until:
                raise CrewError(f"the clients did not begin within {START_S:.0f} s")
            time.sleep(0.05)

    def check(self) -> None:
        """Raises CrewError when one has ended that should work: that is a bug of the harness, and no verdict."""
        for role, process in self._running.items():
            if process.poll() is not None:
                raise CrewError(f"the clients {role} ended with code {process.returncode}:\n{self._tail(role)}")

    def calm(self) -> None:
        """Sources are to write no more."""
        for role in self.workers:
            self.resume(role)
        self._tell(CALM)

    def finish(self) -> list[str]:
        """All end by themselves; those that do not are killed, and named."""
        self._tell(FINISH)
        until = time.monotonic() + END_S
        late: list[str] = []
        for role, process in self._running.items():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(f"the clients {role} do not end within {END_S:.0f} s")
                self._end(process)
            else:
                if process.returncode != 0:
                    raise CrewError(f"the clients {role} ended with code {process.returncode}:\n{self._tail(role)}")
        self.kill_all()
        return late

    def kill_all(self) -> None:
        """End whatever runs."""
        self.end_zombies()
        for process in self._running.values():
            self._end(process)
        self._running.clear()

    # -- inside

    def _begin(self, role: Role) -> None:
        self._begun += 1
        history = self._histories[role] = self._directory / f"{role}-{self._begun}.history"
        task = replace(self._task, role=role, seed=self._task.seed + self._begun, history=history)
        command = [sys.executable, "-m", "ottla.testing.chaos.worker", task.text()]
        with self._log(role).open("ab") as log:
            self._running[role] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log
            )

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it had nothing more to do when it was told to finish
                process.stdin.close()

    def _tell(self, what: str) -> None:
        for process in self._running.values():
            assert process.stdin is not None
            try:
                process.stdin.write(f"{what}\n".encode())
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended, of which `check` and `finish` tell

    def _log(self, role: Role) -> Path:
        return self._directory / f"{role}.log"

    def _tail(self, role: Role) -> str:
        return self._log(role).read_text(errors="replace")[-3000:]
