"""What a Fetch asks for and what it gets: plain objects of the hot path, shared by both doors."""

from typing import Final

from ottla.broker.replicas import TopicKey
from ottla.core.errors import ErrorCode
from ottla.core.types import Buffer
from ottla.partitions.results import Isolation

CONSUMER: Final = -1  # the replica id of whoever is no replica
NO_SESSION: Final = 0
INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
NO_PREFERENCE: Final = -1  # for another replica than the one that was asked


class FetchPartition:
    """One partition of a request, or of a session."""

    __slots__ = ("current_leader_epoch", "fetch_offset", "index", "max_bytes", "topic")

    def __init__(
        self, topic: TopicKey, index: int, fetch_offset: int, max_bytes: int, current_leader_epoch: int = -1
    ) -> None:
        self.topic = topic
        self.index = index
        self.fetch_offset = fetch_offset
        self.max_bytes = max_bytes
        self.current_leader_epoch = current_leader_epoch


class FetchRequest:
    """`forgotten` and the session's fields: KIP-227. `rack`: where the client is, "" when it does not say; None when it
    may read from leaders only (KIP-392).
    """

    __slots__ = (
        "allows_zstd",
        "forgotten",
        "isolation",
        "max_bytes",
        "max_wait_ms",
        "min_bytes",
        "partitions",
        "rack",
        "session_epoch",
        "session_id",
    )

    def __init__(
        self,
        *,
        partitions: list[FetchPartition],
        max_wait_ms: int = 0,
        min_bytes: int = 0,
        max_bytes: int = 2**31 - 1,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
        session_id: int = NO_SESSION,
        session_epoch: int = FINAL_EPOCH,
        forgotten: list[tuple[TopicKey, int]] | None = None,
        allows_zstd: bool = True,
        rack: str | None = None,
    ) -> None:
        self.partitions = partitions
        self.max_wait_ms = max_wait_ms
        self.min_bytes = min_bytes
        self.max_bytes = max_bytes
        self.isolation = isolation
        self.session_id = session_id
        self.session_epoch = session_epoch
        self.forgotten = forgotten or []
        self.allows_zstd = allows_zstd
        self.rack = rack


class FetchedPartition:
    """The outcome for one partition: whole batches, in buffers that are sent as they are."""

    __slots__ = (
        "aborted",
        "buffers",
        "error",
        "high_watermark",
        "index",
        "last_stable_offset",
        "log_start_offset",
        "preferred_replica",
        "size",
        "topic",
    )

    def __init__(self, topic: TopicKey, index: int, error: ErrorCode = ErrorCode.NONE) -> None:
        self.topic = topic
        self.index = index
        self.error = error
        self.high_watermark = -1
        self.last_stable_offset = -1
        self.log_start_offset = -1
        self.preferred_replica = NO_PREFERENCE
        self.aborted: list[tuple[int, int]] | None = None
        self.buffers: list[Buffer] = []
        self.size = 0


class FetchResponse:
    """Partitions in the order in which they were served; those of one topic need not stand together."""

    __slots__ = ("error", "partitions", "session_id")

    def __init__(
        self,
        partitions: list[FetchedPartition],
        *,
        error: ErrorCode = ErrorCode.NONE,
        session_id: int = NO_SESSION,
    ) -> None:
        self.partitions = partitions
        self.error = error
        self.session_id = session_id
