"""What a workload asks of a client library: producers, consumers and the few questions to the cluster.

All calls are coroutines of one loop. A call that fails raises Failure, which says what is known of the operation's
outcome and what is left to do, in the terms of KIP-1050.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio

CALL_S = 30.0  # how long a call may repeat itself before it tells a failure
DELIVERY_S = 60.0  # how long a record is tried before it is given up


class Remedy(Enum):
    """What is left to do after a failure."""

    RETRY = "retry"  # the same call may succeed
    ABORT = "abort"  # the transaction cannot commit: abort it
    CLOSE = "close"  # this client cannot go on: make a new one


class Failure(Exception):
    """A call failed. `is_known`: the operation has certainly no effect; else it may have one, now or later."""

    def __init__(self, message: str, *, is_known: bool = False, remedy: Remedy = Remedy.CLOSE) -> None:
        super().__init__(message)
        self.is_known = is_known
        self.remedy = remedy


class At(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Read(NamedTuple):
    """A record as a consumer got it."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the cluster is: `bootstrap` for the Kafka protocol, `grpc` for our own client; either may be empty."""

    bootstrap: str = ""
    grpc: str = ""
    ca_file: str | None = None  # PEM; with it TLS is spoken
    certificate_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic to create."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """How a partition stands. `leader` is -1 while there is none."""

    at: At
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


class Listener(Protocol):
    """Told what a member's group gives it and takes from it. Neither call may block or raise."""

    def assigned(self, partitions: Collection[At], generation: int, member: str) -> None:
        """These are its own from now on. `generation`: the group's, or the member's epoch (KIP-848); -1: unknown."""

    def revoked(self, partitions: Collection[At], generation: int, member: str, *, lost: bool) -> None:
        """These are given back, or (`lost`) were others' already."""


class Producer(Protocol):
    """Idempotent, acks=all; transactional when it was made with a transactional id."""

    async def send(self, at: At, value: str | None, key: str | None = None) -> "asyncio.Future[int]":
        """Accept a record; the future gives its offset, or Failure."""

    async def flush(self) -> None:
        """Return when all that was sent is acknowledged or given up."""

    async def begin(self) -> None:
        """Begin a transaction."""

    async def send_offsets(self, offsets: Mapping[At, int], consumer: "Consumer") -> None:
        """Let the group's offsets be a part of the transaction."""

    async def commit(self) -> None:
        """Commit it."""

    async def abort(self) -> None:
        """Abort it."""

    async def close(self) -> None:
        """Give it up; raises nothing."""


class Consumer(Protocol):
    """Reads partitions that it was given, or those that its group gives it."""

    async def poll(self, timeout_s: float, limit: int = 500) -> list[Read]:
        """What there is; waits for the first record."""

    def seek(self, at: At, offset: int) -> None:
        """Go on at that offset, where the partition is still its own."""

    async def commit(self, offsets: Mapping[At, int]) -> None:
        """Commit offsets of next records."""

    async def close(self) -> None:
        """Leave the group and close; raises nothing."""


class Library(Protocol):
    """One client library, connected to one cluster."""

    name: str
    groups_in_transactions: bool  # offsets in a transaction are checked against the member that consumed (KIP-447)

    async def producer(self, transactional_id: str | None = None, transaction_timeout_s: float = 10.0) -> Producer:
        """A producer that is ready; with a transactional id who had it before is fenced."""

    async def consumer(
        self,
        *,
        assigned: Sequence[At] = (),
        subscribed: Sequence[str] = (),
        group: str | None = None,
        committed_only: bool = False,
        listener: Listener | None = None,
    ) -> Consumer:
        """A consumer that begins at the group's offsets, or at the first record."""

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create topics; return when each partition has a leader."""

    async def delete_topics(self, names: Sequence[str]) -> None:
        """Delete topics with their records."""

    async def partitions(self, topics: Sequence[str]) -> list[Partition]:
        """How the partitions stand."""

    async def ends(self, partitions: Sequence[At], *, committed_only: bool) -> dict[At, int]:
        """The last stable offsets, or the high watermarks."""

    async def committed(self, group: str, partitions: Sequence[At]) -> dict[At, int]:
        """The group's offsets; partitions without one are missing."""

    async def group(self, name: str) -> tuple[str, int]:
        """The group's state and the number of its members."""

    async def close(self) -> None:
        """Close what the questions used."""
