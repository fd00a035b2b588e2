"""What transactional clients asked for and were told, and what readers saw: all that the judge looks at.

Records that transactions write name their attempt and their source, so that each one found in a log tells which
transaction wrote it, and which record of the input it was made of.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

Partition = tuple[str, int]
"""A topic's name and a partition's index."""


class Source(NamedTuple):
    """A record of the input topic."""

    partition: int
    offset: int


class Seen(NamedTuple):
    """A record as a reader was given it."""

    offset: int
    value: bytes


@dataclass(slots=True)
class Attempt:
    """One transaction of one producer."""

    name: str
    sent: dict[Partition, list[bytes]] = field(default_factory=dict)
    """Values for each partition, whether anybody knows that they arrived or not."""
    asked_to_commit: bool = False
    told_committed: bool = False
    """EndTxn was answered without an error."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a reader of committed records was given once: everything from `position` to `end`, says who gave it."""

    reader: str
    node: int
    partition: Partition
    position: int
    end: int
    records: tuple[Seen, ...]


class Assigned(NamedTuple):
    """What SyncGroup told a member."""

    group: str
    generation: int
    member: str
    partitions: tuple[int, ...]  # of the input


@dataclass(slots=True)
class History:
    """Of one run. What stands under "the end" is filled in when nothing happens any more."""

    attempts: dict[str, Attempt] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    assigned: list[Assigned] = field(default_factory=list)

    # the end
    inputs: dict[int, list[int]] = field(default_factory=dict)
    """For each partition of the input, the offsets of its committed records."""
    outputs: dict[Partition, list[Seen]] = field(default_factory=dict)
    """The committed records of each partition that transactions wrote to."""
    offsets: dict[int, int] = field(default_factory=dict)
    """What the group has committed for each partition of the input."""

    def begin(self, name: str) -> Attempt:
        """A transaction begins."""
        assert name not in self.attempts
        attempt = self.attempts[name] = Attempt(name)
        return attempt


def value_of(attempt: str, source: Source) -> bytes:
    """A record that `attempt` makes of `source`."""
    return f"{attempt}|{source.partition}:{source.offset}|".encode()


def attempt_of(value: bytes) -> str:
    """The name of the transaction that wrote this."""
    return value.partition(b"|")[0].decode()


def source_of(value: bytes) -> Source:
    """Which record of the input it was made of."""
    partition, _, offset = value.split(b"|")[1].partition(b":")
    return Source(int(partition), int(offset))


def sources_of(records: Iterable[Seen]) -> list[Source]:
    return [source_of(record.value) for record in records]
