"""Processes that consume, transform and produce in transactions, as the driver of `chaos.transactions` has them.

Two names copy one topic to another. A name is a transactional id: who comes later with it fences who had it. A copier
may be killed, or stopped beyond its transaction's timeout, with a successor meanwhile or without one; a process that
ended by itself is begun anew. What each did stands in a file, a line a step.
"""

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

NAMES: Final = ("a", "b")
TRANSACTION_TIMEOUT_S: Final = 5.0
STOP_S: Final = 100.0  # a client may be in a call that it repeats


@dataclass(slots=True)
class Copied:
    """What the copiers of all names did, and what was done to them."""

    steps: Counter[str] = field(default_factory=Counter)  # by the first word of a line
    ended: Counter[str] = field(default_factory=Counter)  # why processes ended by themselves
    kills: int = 0
    zombies: int = 0


class Copiers:
    """One process for each name, and zombies."""

    def __init__(self, command: list[str], directory: Path, random: Random) -> None:
        self._command, self._directory, self._random = command, directory, random
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._zombies: list[tuple[float, subprocess.Popen[bytes]]] = []  # stopped until then
        self._begun: list[subprocess.Popen[bytes]] = []
        self._copied = Copied()

    def start(self) -> None:
        """Begin those that do not run."""
        for name in NAMES:
            process = self._running.get(name)
            if process is None or process.poll() is not None:
                self._begin(name)

    def fault(self) -> str:
        """Do one to a copier; what it was."""
        name = self._random.choice(NAMES)
        process = self._running[name]
        if self._random.random() < 0.6:
            process.kill()
            process.wait()
            self._copied.kills += 1
            self._begin(name)
            return f"kill -9 copier {name}"
        process.send_signal(signal.SIGSTOP)
        self._copied.zombies += 1
        until = time.monotonic() + TRANSACTION_TIMEOUT_S * self._random.uniform(0.3, 1.7)
        self._zombies.append((until, process))
        if self._random.random() < 0.5:
            return f"stop copier {name} for {until - time.monotonic():.1f} s"
        self._begin(name)
        return f"stop copier {name} for {until - time.monotonic():.1f} s, with a successor"

    def wake(self) -> None:
        """Let zombies go on whose time has come, and begin anew what ended."""
        now = time.monotonic()
        for until, process in self._zombies:
            if until <= now:
                process.send_signal(signal.SIGCONT)
        self._zombies = [one for one in self._zombies if one[0] > now]
        self.start()

    def kill(self) -> None:
        """End whatever runs still: none outlives a run that failed."""
        for process in self._alive():
            process.kill()
            process.wait()

    def stop(self) -> Copied:
        """Stop all in order; whoever does not end in time is killed, and counted."""
        for process in self._alive():
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self._copied.ended["not in time"] += 1
        for path in self._directory.glob("*.steps"):
            for line in path.read_text().splitlines():
                word, _, rest = line.partition(" ")
                self._copied.steps[word] += 1
                if word == "ended":
                    self._copied.ended[rest] += 1
        return self._copied

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        """Also zombies that went on: not each of them notices what it is before the run ends."""
        return [process for process in self._begun if process.poll() is None]

    def _begin(self, name: str) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*self._command, "--name", name, "--steps", str(self._directory / f"{name}.steps")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._begun.append(self._running[name])


def command(client: str, *arguments: str) -> list[str]:
    """What starts a copier with that client."""
    return [sys.executable, "-m", f"chaos.copy_{client}", *arguments]
