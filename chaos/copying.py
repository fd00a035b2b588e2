"""What the copiers of every client share: their arguments, the steps that they write down, and when to give up.

A record's value is copied unchanged to the partition of its own number. Its key names the transaction, and how many
records it has, so that the verdict can tell a torn one; one that is to be aborted says so.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

import click

SOURCE: Final = "chaos-source"
COPY: Final = "chaos-copy"
GROUP: Final = "chaos-copiers"
BATCH: Final = 100
BATCH_S: Final = 0.1
ABORTED: Final = "aborted"
ABORTS: Final = 0.1  # of the transactions, on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One copier."""

    bootstrap: str
    name: str
    partitions: int
    steps: Path
    protocol: str
    random: Random

    def own_partitions(self, names: tuple[str, ...]) -> list[int]:
        """Those of this name, where no group gives them out."""
        return list(range(names.index(self.name), self.partitions, len(names)))

    def step(self, what: str) -> None:
        """Write a step down."""
        with self.steps.open("a") as file:
            file.write(f"{what}\n")

    def key(self, number: int, size: int, *, abort: bool) -> bytes:
        """The key of all records of a transaction."""
        kind = ABORTED if abort else "committed"
        return f"{kind} {self.name}.{os.getpid()}.{time.time_ns()}.{number} {size}".encode()


class Stopping:
    """True once SIGTERM came."""

    def __init__(self) -> None:
        self._told = False
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True

    def __bool__(self) -> bool:
        return self._told


def task() -> Task:
    """From the command line."""
    found: list[Task] = []

    @click.command()
    @click.option("--bootstrap", required=True)
    @click.option("--name", required=True)
    @click.option("--partitions", type=int, required=True)
    @click.option("--steps", type=click.Path(path_type=Path), required=True)
    @click.option("--protocol", default="classic")
    def parse(*, bootstrap: str, name: str, partitions: int, steps: Path, protocol: str) -> None:
        found.append(
            Task(bootstrap=bootstrap, name=name, partitions=partitions, steps=steps, protocol=protocol, random=Random())
        )

    parse(standalone_mode=False)
    return found[0]


def give_up(task: Task, error: BaseException, reason: str) -> None:
    """End the process at once, as a service does that its supervisor begins anew: the transaction stays as it is."""
    task.step(f"ended {reason}")
    click.echo(f"{time.time():.3f} {task.name} {os.getpid()}: {reason}: {error!r}", err=True)
    os._exit(3)
