"""What clients did: one record for each operation, with when it was asked for, when it was answered, and how it ended.

A history is the only thing that the checker looks at; it trusts no node. Times are `time.monotonic_ns()`, which all
processes of one machine share. An *outcome* is what the client knows for certain:

- `ok`: it was told that it happened;
- `failed`: it was told that it did not, and never will;
- `unknown`: anything else, such as a timeout, a lost connection, a client that was killed. When in doubt, unknown: what
  is called failed must never be seen.

Values are unique within a topic, unless the topic is a table (see `Expectations`). A *transaction* has a name of its
own that no other transaction bears, also not one of the same transactional id; records carry it (in the value, the key
or a header: the workload's choice), so that whoever reads one can tell which transaction wrote it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple


class Outcome(StrEnum):
    """How an operation ended, as far as its client knows."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class TopicPartition(NamedTuple):
    """A topic's name and a partition's index."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class At(NamedTuple):
    """An offset of a partition: a record's, a position's or a committed one."""

    topic: str
    partition: int
    offset: int


class Seen(NamedTuple):
    """A record as a consumer was given it."""

    topic: str
    partition: int
    offset: int
    value: str | None  # None: a tombstone
    key: str | None = None
    transaction: str | None = None  # which wrote it, by what the record says


class Written(NamedTuple):
    """Offsets of a partition, the last one too, and the producer that wrote all of them."""

    first_offset: int
    last_offset: int
    producer_id: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What all have in common. `process` is a client for its whole life; one that is begun anew has another name."""

    kind: ClassVar[str]

    process: str
    invoked_ns: int
    completed_ns: int | None = None  # None: no answer ever came
    outcome: Outcome = Outcome.UNKNOWN
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Operation):
    """One record given to a producer. `ok`: acknowledged with acks=all, though a transaction may still abort it."""

    kind: ClassVar[str] = "send"

    topic: str
    partition: int  # -1: the client chooses, and nobody was told
    value: str | None
    key: str | None = None
    offset: int = -1  # -1: nobody was told
    transaction: str | None = None
    source: At | None = None  # the record of the input that this one was made of


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll(Operation):
    """What a consumer was given by one call, in that order.

    `positions`: where it stands afterwards in each partition, when that is known; without it, right behind the last
    record. `transaction`: within which it was done, when the consumer feeds one.
    """

    kind: ClassVar[str] = "poll"

    records: tuple[Seen, ...]
    committed: bool  # isolation.level is read_committed
    positions: tuple[At, ...] = ()
    transaction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Operation):
    """Offsets of a group committed, by a consumer or (with `transaction`) within a transaction."""

    kind: ClassVar[str] = "commit"

    group: str
    offsets: tuple[At, ...]
    transaction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetFetch(Operation):
    """The committed offsets of a group in some partitions, as somebody was told them; -1: there is none.

    `final`: the run is over, everything has ended, so that offsets and records must agree.
    """

    kind: ClassVar[str] = "offset-fetch"

    group: str
    offsets: tuple[At, ...]
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Operation):
    """A transaction begins."""

    kind: ClassVar[str] = "begin"

    transaction: str
    transactional_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Operation):
    """A transaction is asked to end. `ok`: as asked; `failed`: surely not as asked."""

    kind: ClassVar[str] = "end"

    transaction: str
    commit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned(Operation):
    """A consumer was given partitions, by its group or (group "") by itself; it begins anew in each of them.

    `starts`: where it begins, when that is known. `generation` -1: nobody was told.
    """

    kind: ClassVar[str] = "assigned"

    partitions: tuple[TopicPartition, ...]
    group: str = ""
    generation: int = -1
    member: str = ""
    starts: tuple[At, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked(Operation):
    """A consumer gave partitions back, or learned (`lost`) that it had lost them."""

    kind: ClassVar[str] = "revoked"

    partitions: tuple[TopicPartition, ...]
    group: str = ""
    generation: int = -1
    member: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seek(Operation):
    """A consumer goes to another offset."""

    kind: ClassVar[str] = "seek"

    to: tuple[At, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOffsets(Operation):
    """Where partitions end, as ListOffsets tells it: the high watermark, or (`committed`) the last stable offset.

    `final`: the run is over, everything has ended, and some poll sequence has read up to here.
    """

    kind: ClassVar[str] = "end-offsets"

    offsets: tuple[At, ...]
    committed: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Operation):
    """A whole topic read as a table, from its start to where it ended after the invocation: the last value of each key.

    For a bank the keys are accounts and the values balances, whatever the records look like; then it is taken when no
    transfer is under way. Deleted keys are missing.
    """

    kind: ClassVar[str] = "snapshot"

    topic: str
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Writers(Operation):
    """Who wrote what of a partition, as the log of a replica says. Ascending; what no producer id says is missing."""

    kind: ClassVar[str] = "writers"

    topic: str
    partition: int
    written: tuple[Written, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renumbered(Operation):
    """A client's library raised its producer's epoch to this one by itself, and numbered anew what was not answered.

    No broker can know any of that for a record which it has already: what was appended is written twice.
    """

    kind: ClassVar[str] = "renumbered"

    producer_id: int
    epoch: int
    why: str = ""


KINDS: Final[dict[str, type[Operation]]] = {
    one.kind: one
    for one in (
        Send,
        Poll,
        Commit,
        OffsetFetch,
        Begin,
        End,
        Assigned,
        Revoked,
        Seek,
        EndOffsets,
        Snapshot,
        Writers,
        Renumbered,
    )
}
