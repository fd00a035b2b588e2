"""The port between the clients and a cluster: what they ask of it, whatever protocol carries it.

A transport keeps the connections and turns these types into messages. It retries nothing and caches nothing: that is
the clients' matter. Calls raise `ClientError`; a lost or refused connection, or an answer that does not come within
the request time-out, is NETWORK_EXCEPTION or REQUEST_TIMED_OUT, both retriable.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ottla.client.coordination import GroupCalls, TransactionCalls
from ottla.client.errors import ClientError
from ottla.client.mirrors import MirrorCalls
from ottla.client.operations import Operations
from ottla.client.types import (
    ClusterDescription,
    ConfigEntry,
    ConfigResource,
    CreatedTopic,
    NewTopic,
    OffsetAndTimestamp,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from ottla.core.types import Buffer

EARLIEST_TIMESTAMP = -2
LATEST_TIMESTAMP = -1


@dataclass(slots=True)
class ProduceRequest:
    """One record batch for each of some partitions which the node leads."""

    acks: int
    timeout_ms: int
    batches: Sequence[tuple[TopicPartition, Buffer]]
    transactional_id: str | None = None
    topic_ids: Mapping[str, str] | None = None
    """Of these topics, by name: a topic of another id is refused. Over gRPC this is so for Fetch alone."""


class ProduceResult(NamedTuple):
    """What became of one batch."""

    error: ClientError | None
    base_offset: int
    log_append_time_ms: int  # -1: the records' own timestamps count


@dataclass(slots=True)
class FetchRequest:
    """Where to read on, for some partitions which the node leads."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    read_committed: bool
    partitions: Sequence["FetchPartition"]
    topic_ids: Mapping[str, str] | None = None
    """As in `ProduceRequest`; all of the topics or none."""


class FetchPartition(NamedTuple):
    """Where to read on in one partition. A leader of another epoch refuses; -1: any will do."""

    topic_partition: TopicPartition
    fetch_offset: int
    max_bytes: int
    leader_epoch: int = -1


class FetchResult(NamedTuple):
    """Record batches of one partition, one after the other; the first may begin before the fetch offset."""

    topic_partition: TopicPartition
    error: ClientError | None
    batches: Buffer
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted_transactions: Sequence[tuple[int, int]]  # (producer id, first offset)


ItemErrors = Mapping[str, ClientError]


class Transport(Protocol):
    """Connections to the nodes of one cluster. Every method runs on the loop that `open` ran on."""

    @property
    def operations(self) -> Operations:
        """What operators ask, over the same connections."""

    @property
    def groups(self) -> GroupCalls:
        """What concerns groups."""

    @property
    def transactions(self) -> TransactionCalls:
        """What concerns transactions."""

    @property
    def mirrors(self) -> MirrorCalls:
        """What concerns mirror topics."""

    async def open(self) -> None:
        """Reach one of the bootstrap servers."""

    async def close(self) -> None:
        """Close every connection; what waits for an answer fails."""

    def ask_elsewhere(self) -> None:
        """Put what any node may be asked to another one from now on: what the last one said proved to be old."""

    async def describe_cluster(self) -> ClusterDescription:
        """Ask any node; from then on the transport can reach each of the described nodes by its id."""

    async def list_topics(self, *, include_internal: bool) -> list[TopicListing]:
        """Every topic by name and id."""

    async def describe_topics(
        self, names: Sequence[str] | None, *, allow_auto_create: bool
    ) -> tuple[list[TopicDescription], dict[str, ClientError]]:
        """Descriptions, and errors by topic. None: every topic."""

    async def init_producer_id(self) -> tuple[int, int]:
        """A new producer id and its epoch."""

    def produce(self, node_id: int, request: ProduceRequest) -> "asyncio.Future[dict[TopicPartition, ProduceResult]]":
        """Queue a request; requests to one node are sent in the order of the calls.

        With `acks=0` the future is done once the request is handed to the connection.
        """

    async def fetch(self, node_id: int, request: FetchRequest) -> list[FetchResult]:
        """Read; waits up to `max_wait_ms` at the leader."""

    async def list_offsets(
        self, node_id: int, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
    ) -> dict[TopicPartition, OffsetAndTimestamp | ClientError]:
        """Offsets by time; -1 (latest) and -2 (earliest) are Kafka's. Offset -1: no such record."""

    async def create_topics(
        self, topics: Sequence[NewTopic], *, timeout_ms: int, validate_only: bool
    ) -> dict[str, CreatedTopic | ClientError]:
        """Results by topic."""

    async def delete_topics(self, names: Sequence[str], *, timeout_ms: int) -> dict[str, ClientError | None]:
        """Results by topic."""

    async def create_partitions(
        self, total_counts: Mapping[str, int], *, timeout_ms: int, validate_only: bool
    ) -> dict[str, ClientError | None]:
        """Results by topic."""

    async def delete_records(
        self, node_id: int, before_offsets: Mapping[TopicPartition, int], *, timeout_ms: int
    ) -> dict[TopicPartition, int | ClientError]:
        """New log start offsets of partitions which the node leads. -1: up to the high watermark."""

    async def describe_configs(
        self, resources: Sequence[ConfigResource], *, include_documentation: bool
    ) -> dict[ConfigResource, dict[str, ConfigEntry] | ClientError]:
        """Configs by key."""

    async def alter_configs(
        self, changes: Mapping[ConfigResource, Sequence["ConfigChange"]], *, validate_only: bool
    ) -> dict[ConfigResource, ClientError | None]:
        """Change the named keys only."""


class ConfigChange(NamedTuple):
    """Set a key to a value, or with None back to its default."""

    key: str
    value: str | None
