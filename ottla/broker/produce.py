"""Produce: appends batches to the partitions that this node leads, and answers when the asked level is reached.

This is the hottest path of a broker: no task, future or timer exists for a single request. Each partition reports its
end by a callback, the last one completes the request, and one timer watches all deadlines.
"""

from collections.abc import Callable
from typing import Final

from ottla.broker.deadlines import Bucket, Deadlines
from ottla.broker.refusals import Refusals
from ottla.broker.replicas import Replicas, TopicKey
from ottla.broker.transactions.produce import Transactions
from ottla.broker.transactions.verifying import Verifier
from ottla.core.errors import ApiError, ErrorCode
from ottla.partitions.partition import Partition
from ottla.partitions.results import Appended
from ottla.partitions.verification import NO_GUARD

ACKS_ALL: Final = -1
_ATTRIBUTES_LOW_BYTE: Final = 22  # of a record batch, magic 2; the low three bits are the codec
_ZSTD: Final = 4
_TRANSACTIONAL: Final = 0x10
_INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state"})  # for their coordinators to write
_NONE = ErrorCode.NONE


class ProduceRequest:
    """What is to be appended: for each topic and partition one record batch, which the log may change in place.

    `adds_partitions`: what it writes to becomes part of the transaction by that (transaction version 2, Produce from 12
    on); else the producer has added it before. `knows_abortable`: it understands TRANSACTION_ABORTABLE (from 11 on),
    and aborts where older ones could only give up.
    """

    __slots__ = (
        "acks",
        "adds_partitions",
        "allows_zstd",
        "knows_abortable",
        "timeout_ms",
        "topics",
        "transactional_id",
    )

    def __init__(
        self,
        *,
        acks: int,
        timeout_ms: int,
        topics: list[tuple[TopicKey, list[tuple[int, memoryview | None]]]],
        transactional_id: str | None = None,
        allows_zstd: bool = True,
        adds_partitions: bool = False,
        knows_abortable: bool = False,
    ) -> None:
        self.acks = acks
        self.timeout_ms = timeout_ms
        self.topics = topics
        self.transactional_id = transactional_id
        self.allows_zstd = allows_zstd
        self.adds_partitions = adds_partitions
        self.knows_abortable = knows_abortable


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

    def appended(self, appended: Appended) -> None:
        """The batch is in the log; it may be acknowledged already."""
        if not self.error:
            self.base_offset = appended.base_offset
            self.last_offset = appended.last_offset
            self.log_append_time_ms = appended.log_append_time_ms
            self.log_start_offset = appended.log_start_offset

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

    def refused(self, error: ApiError) -> None:
        """The batch that was waited for is not appended."""
        if self.waiting:
            self.waiting = False
            self.refuse(error.code, error.message)
            self._request.settled()


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

    def settled(self) -> None:
        """One of those that were outstanding is not any more."""
        self.outstanding -= 1
        if not self.outstanding:
            self.finish()

    def finish(self) -> None:
        if self._bucket is not None:
            self._bucket.pop(self, None)
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

    __slots__ = ("_deadlines", "_refusals", "_replicas", "_transactions")

    def __init__(self, replicas: Replicas, deadlines: Deadlines) -> None:
        self._replicas = replicas
        self._deadlines = deadlines
        self._refusals = Refusals()
        self._transactions: Transactions | None = None

    def serve_transactions(self, verifier: Verifier) -> None:
        """From now on transactional batches are taken; before, they are refused."""
        self._transactions = Transactions(verifier)

    def __call__(self, request: ProduceRequest, done: ProduceDone) -> None:
        """Append everything now; `done` runs once, here when nothing has to be waited for (errors, `acks=0`)."""
        pending = _Pending(done)
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
                    self._append(topic, batch, produced, pending, request)
                except ApiError as error:
                    if produced.waiting:
                        produced.waiting = False
                        pending.outstanding -= 1
                    if batch:
                        self._refusals.note(topic, index, batch, error.code)
                    produced.refuse(error.code, error.message)
        pending.handed_over(self._deadlines, request.timeout_ms)

    def _append(
        self,
        topic: TopicKey,
        batch: memoryview | None,
        produced: ProducedPartition,
        pending: _Pending,
        request: ProduceRequest,
    ) -> None:
        if not batch:
            raise ApiError(ErrorCode.INVALID_RECORD, "a produce request must hold exactly one record batch a partition")
        attributes = batch[_ATTRIBUTES_LOW_BYTE] if len(batch) > _ATTRIBUTES_LOW_BYTE else 0
        if not request.allows_zstd and attributes & 7 == _ZSTD:
            raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7 or later")
        partition = self._replicas.leader(topic, produced.index)
        if partition.topic in _INTERNAL_TOPICS:
            raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"clients cannot write to {partition.topic}")
        if self._refusals:
            self._refusals.check(topic, partition, batch)
        acks = request.acks
        if attributes & _TRANSACTIONAL:
            self._append_transactional(topic, partition, batch, produced, pending, request)
        elif acks:
            produced.waiting = True
            pending.outstanding += 1
            produced.appended(partition.append(batch, acks=acks, done=produced.acknowledged))
        else:
            produced.appended(partition.append(batch, acks=0, done=None))

    def _append_transactional(
        self,
        topic: TopicKey,
        partition: Partition,
        batch: memoryview,
        produced: ProducedPartition,
        pending: _Pending,
        request: ProduceRequest,
    ) -> None:
        """Now, or when the transaction's coordinator was asked. What became of the request meanwhile is no matter: the
        batches behind this one count on it.
        """
        if self._transactions is None or request.transactional_id is None:
            # Nobody could end it: the last stable offset would stand still for ever.
            raise ApiError(ErrorCode.INVALID_TXN_STATE, "the batch belongs to no transaction that is under way")
        acks, knows_abortable = request.acks, request.knows_abortable

        def settle(guard: int | ApiError) -> None:
            pending.outstanding += 1  # the answer goes when it is whole, also that of a duplicate
            try:
                if isinstance(guard, ApiError):
                    raise guard
                done = produced.acknowledged if acks else None
                produced.appended(partition.append(batch, acks=acks, done=done, guard=guard))
                if not acks:
                    produced.acknowledged(ErrorCode.NONE)
            except ApiError as error:
                self._refusals.note(topic, produced.index, batch, error.code)
                if knows_abortable and error.code is ErrorCode.INVALID_TXN_STATE:
                    error = ApiError(ErrorCode.TRANSACTION_ABORTABLE, error.message)
                produced.refused(error)
            pending.settled()

        produced.waiting = True
        pending.outstanding += 1
        if self._transactions.admit(partition, batch, request.transactional_id, request.adds_partitions, settle):
            settle(NO_GUARD)

    @staticmethod
    def _refusal(request: ProduceRequest) -> ApiError | None:
        if not ACKS_ALL <= request.acks <= 1:
            return ApiError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks={request.acks} is none of -1, 0 and 1")
        return None
