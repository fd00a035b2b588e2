"""Groups and transactions: the types, and the ports that a transport implements beside `transport.Transport`.

Each call goes to one node, of which the caller knows (`coordinators.Coordinators`) that it is the right one; another
one answers NOT_COORDINATOR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from ottla.client.errors import ClientError
from ottla.client.types import TopicPartition


class CoordinatorType(IntEnum):
    """What is coordinated; the numbers of `ottla.v1.CoordinatorType`."""

    GROUP = 0
    TRANSACTION = 1


class OffsetAndMetadata(NamedTuple):
    """A committed offset: that of the next record to read."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


Offsets = Mapping[TopicPartition, int | OffsetAndMetadata]  # as an application names them


def offsets_to_commit(offsets: Offsets) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets in full. Raises ValueError for a negative one: it would read as "nothing is committed"."""
    wanted: dict[TopicPartition, OffsetAndMetadata] = {}
    for partition, one in offsets.items():
        offset = one if isinstance(one, OffsetAndMetadata) else OffsetAndMetadata(one)
        if offset.offset < 0:
            raise ValueError(f"{partition[0]}-{partition[1]}: an offset is at least 0, not {offset.offset}")
        wanted[TopicPartition(*partition)] = offset
    return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetadata:
    """A group, and under which membership its offsets are committed: what `Transaction.send_offsets` needs."""

    group_id: str
    member_id: str = ""
    member_epoch: int = -1  # -1: nobody's
    instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupListing:
    """A group of any protocol."""

    group_id: str
    type: str  # "classic", "consumer"
    state: str
    protocol_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A member, what it reads, and what it is to read when the group has come to rest."""

    member_id: str
    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    member_epoch: int  # -1 in a classic group
    topics: tuple[str, ...]
    topic_regex: str | None
    assignment: tuple[TopicPartition, ...]
    target: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDescription:
    """A group and its members. The epochs are -1 in a classic group."""

    group_id: str
    type: str
    state: str
    protocol_type: str
    assignor: str
    group_epoch: int
    assignment_epoch: int
    members: tuple[GroupMember, ...]
    coordinator_id: int = -1


@dataclass(slots=True, kw_only=True)
class HeartbeatRequest:
    """KIP-848's ConsumerGroupHeartbeat; None is "as before" for all that may be None."""

    group_id: str
    member_id: str
    member_epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    topics: Sequence[str] | None = None
    server_assignor: str | None = None
    owned: Mapping[bytes, Sequence[int]] | None = None  # partition indexes by topic id


@dataclass(slots=True, kw_only=True)
class HeartbeatAnswer:
    """What the coordinator wants of a member."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int
    assignment: Mapping["TopicIdAndName", Sequence[int]] | None  # None: as before


class TopicIdAndName(NamedTuple):
    """A topic by its id, and by its name where the coordinator knew it ("" else)."""

    topic_id: bytes
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionalProducer:
    """A transactional id and who writes under it now."""

    transactional_id: str
    producer_id: int
    producer_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionListing:
    """A transactional id and the state of its transaction, in Kafka's words."""

    transactional_id: str
    producer_id: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionDescription:
    """A transactional id: its producer, and what its open transaction has written to."""

    transactional_id: str
    state: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    start_time_ms: int  # milliseconds since 1970; -1: none is open
    partitions: tuple[TopicPartition, ...]
    coordinator_id: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerState:
    """What a partition knows of a producer."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int
    coordinator_epoch: int
    transaction_start_offset: int  # -1: none is open


@dataclass(frozen=True, slots=True, kw_only=True)
class HangingTransaction:
    """A transaction that is open in a partition and that no coordinator will end."""

    partition: TopicPartition
    producer: ProducerState
    transactional_id: str | None  # of the producer id, where one is known


GroupOffsets = Mapping[TopicPartition, OffsetAndMetadata]
Outcomes = dict[TopicPartition, ClientError | None]


class GroupCalls(Protocol):
    """Calls raise `ClientError`."""

    async def find_coordinator(self, kind: CoordinatorType, key: str) -> int:
        """Asked of any node; the coordinator's node id."""

    async def heartbeat(self, node_id: int, request: HeartbeatRequest) -> HeartbeatAnswer: ...
    async def commit_offsets(self, node_id: int, group: GroupMetadata, offsets: GroupOffsets) -> Outcomes: ...
    async def fetch_offsets(
        self,
        node_id: int,
        group: GroupMetadata,
        partitions: Sequence[TopicPartition] | None,
        *,
        require_stable: bool,
    ) -> dict[TopicPartition, OffsetAndMetadata | ClientError | None]:
        """Of these partitions, or with None of all that have one. None: nothing is committed."""

    async def delete_offsets(self, node_id: int, group_id: str, partitions: Sequence[TopicPartition]) -> Outcomes: ...
    async def list_groups(self, node_id: int, *, states: Sequence[str], types: Sequence[str]) -> list[GroupListing]: ...
    async def describe_group(self, node_id: int, group_id: str) -> GroupDescription: ...
    async def delete_group(self, node_id: int, group_id: str) -> None: ...


class TransactionCalls(Protocol):
    """Calls raise `ClientError`."""

    async def init_producer_id(
        self, node_id: int, transactional_id: str, timeout_ms: int, before: TransactionalProducer | None
    ) -> TransactionalProducer:
        """`before`: who asks for its next epoch, rather than anew."""

    async def commit_offsets(
        self, node_id: int, producer: TransactionalProducer, group: GroupMetadata, offsets: GroupOffsets
    ) -> Outcomes:
        """Asked of the group's coordinator."""

    async def end_transaction(
        self, node_id: int, producer: TransactionalProducer, *, commit: bool
    ) -> TransactionalProducer:
        """Who writes the next transaction."""

    async def list_transactions(
        self, node_id: int, *, states: Sequence[str], producer_ids: Sequence[int], longer_than_ms: int
    ) -> list[TransactionListing]: ...
    async def describe_transaction(self, node_id: int, transactional_id: str) -> TransactionDescription: ...
    async def describe_producers(
        self, node_id: int, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, list[ProducerState] | ClientError]:
        """Of partitions that the node leads."""

    async def abort_partition(self, node_id: int, partition: TopicPartition, state: ProducerState) -> None:
        """Asked of the partition's leader."""
