"""Produce: appends batches to the partitions that this node leads, and answers when the asked level is reached.

This is the hottest path of a broker: no task, future or timer exists for a single request. Each partition reports its
end by a callback, the last one completes the request, and one timer watches all deadlines.
"""

from collections.abc import Callable

from ottla.broker.deadlines import Bucket, Deadlines
from ottla.broker.replicas import Replicas, TopicKey
from ottla.core.errors import ApiError, ErrorCode

ACKS_ALL = -1
_ATTRIBUTES_LOW_BYTE = 22  # of a record batch, magic 2; the low three bits are the codec
_ZSTD = 4
_TRANSACTIONAL = 0x10
_INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state"})  # only their coordinators write there
_NONE = ErrorCode.NONE


class ProduceRequest:
    """What is to be appended: for each topic and partition one record batch, which the log may change in place."""

    __slots__ = ("acks", "allows_zstd", "timeout_ms", "topics", "transactional_id")

    def __init__(
        self,
        *,
        acks: int,
        timeout_ms: int,
        topics: list[tuple[TopicKey, list[tuple[int, memoryview | None]]]],
        transactional_id: str | None = None,
        allows_zstd: bool = True,
    ) -> None:
        self.acks = acks
        self.timeout_ms = timeout_ms
        self.topics = topics
        self.transactional_id = transactional_id
        self.allows_zstd = allows_zstd


class ProducedPartition:
    """The outcome for one partition."""

    __slots__ = (
        "_request",
        "base_offset",
        "error",
        "index",
        "last_offset",
        "log_append_time_ms",
        "log_start_offset",
        "message",
        "waiting",
    )

    def __init__(self, index: int, request: "_Pending") -> None:
        self.index = index
        self.error = _NONE
        self.message: str | None = None
        self.base_offset = -1
        self.last_offset = -1
        self.log_append_time_ms = -1
        self.log_start_offset = -1
        self.waiting = False
        self._request = request

    def refuse(self, error: ErrorCode, message: str | None = None) -> None:
        """The outcome is this error."""
        self.error = error
        self.message = message or None
        self.base_offset = self.last_offset = self.log_append_time_ms = self.log_start_offset = -1

    def acknowledged(self, error: ErrorCode) -> None:
        """The batch reached the asked level, or never will."""
        if self.waiting:
            self.waiting = False
            if error:
                self.refuse(error)
            request = self._request
            request.outstanding -= 1
            if not request.outstanding:
                request.finish()


ProducedTopics = list[tuple[TopicKey, list[ProducedPartition]]]
ProduceDone = Callable[[ProducedTopics], None]


class _Pending:
    """A request until all its partitions have answered or its time is over."""

    __slots__ = ("_bucket", "_done", "outstanding", "topics")

    def __init__(self, done: ProduceDone) -> None:
        self.topics: ProducedTopics = []
        self.outstanding = 1  # the request itself, until every batch is handed over
        self._done = done
        self._bucket: Bucket | None = None

    def handed_over(self, deadlines: Deadlines, timeout_ms: int) -> None:
        self.outstanding -= 1
        if not self.outstanding:
            self.finish()
        else:
            self._bucket = deadlines.enter(self, timeout_ms if timeout_ms > 0 else 0)

    def finish(self) -> None:
        if self._bucket is not None:
            self._bucket.discard(self)
        topics, self.topics = self.topics, []  # their outcomes refer to this request: leave no cycle behind
        self._done(topics)

    def expire(self) -> None:
        """The batches may still become durable later, as with Kafka; the client is told that nobody knows yet."""
        self._bucket = None
        for _, partitions in self.topics:
            for partition in partitions:
                if partition.waiting:
                    partition.waiting = False
                    partition.refuse(ErrorCode.REQUEST_TIMED_OUT)
        self.finish()


class Produce:
    """The Produce requests of one broker, for both doors."""

    __slots__ = ("_deadlines", "_replicas")

    def __init__(self, replicas: Replicas, deadlines: Deadlines) -> None:
        self._replicas = replicas
        self._deadlines = deadlines

    def __call__(self, request: ProduceRequest, done: ProduceDone) -> None:
        """Append everything now; `done` runs once, here when nothing has to be waited for (errors, `acks=0`)."""
        pending = _Pending(done)
        acks = request.acks
        refusal = self._refusal(request)
        for topic, batches in request.topics:
            partitions: list[ProducedPartition] = []
            pending.topics.append((topic, partitions))
            for index, batch in batches:
                produced = ProducedPartition(index, pending)
                partitions.append(produced)
                if refusal is not None:
                    produced.refuse(refusal.code, refusal.message)
                    continue
                try:
                    self._append(topic, batch, produced, pending, acks, request.allows_zstd)
                except ApiError as error:
                    if produced.waiting:
                        produced.waiting = False
                        pending.outstanding -= 1
                    produced.refuse(error.code, error.message)
        pending.handed_over(self._deadlines, request.timeout_ms)

    def _append(
        self,
        topic: TopicKey,
        batch: memoryview | None,
        produced: ProducedPartition,
        pending: _Pending,
        acks: int,
        allows_zstd: bool,
    ) -> None:
        if not batch:
            raise ApiError(ErrorCode.INVALID_RECORD, "a produce request must hold exactly one record batch a partition")
        attributes = batch[_ATTRIBUTES_LOW_BYTE] if len(batch) > _ATTRIBUTES_LOW_BYTE else 0
        if not allows_zstd and attributes & 7 == _ZSTD:
            raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7 or later")
        if attributes & _TRANSACTIONAL:  # nobody could end it: the last stable offset would stand still for ever
            raise ApiError(ErrorCode.INVALID_TXN_STATE, "the batch belongs to no transaction that is under way")
        partition = self._replicas.leader(topic, produced.index)
        if partition.topic in _INTERNAL_TOPICS:
            raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"clients cannot write to {partition.topic}")
        if acks:
            produced.waiting = True
            pending.outstanding += 1
            appended = partition.append(batch, acks=acks, done=produced.acknowledged)
        else:
            appended = partition.append(batch, acks=0, done=None)
        if not produced.error:
            produced.base_offset = appended.base_offset
            produced.last_offset = appended.last_offset
            produced.log_append_time_ms = appended.log_append_time_ms
            produced.log_start_offset = appended.log_start_offset

    @staticmethod
    def _refusal(request: ProduceRequest) -> ApiError | None:
        if not ACKS_ALL <= request.acks <= 1:
            return ApiError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks={request.acks} is none of -1, 0 and 1")
        if request.transactional_id is not None:
            return ApiError(ErrorCode.INVALID_TXN_STATE, "transactions are not served yet")
        return None
