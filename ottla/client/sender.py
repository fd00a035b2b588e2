"""Sends a producer's batches and settles them: grouping by leader, limits in flight, retries, idempotence, time-outs.

When a partition gets another leader, its batches that are under way go to that one at once, in order and before newer
ones: a request to a node that hangs would be answered after a long time, and by then the new leader may have forgotten
the batch. With `acks=all` an answer that comes yet from the old leader still counts when it says that the batch is
written, for then every later leader has it; its errors tell nothing. `accumulator` says what keeps repeated batches
from being written twice.

It runs in callbacks on the loop, at most one round in each turn, and makes no task for a record or a request.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from ottla.client.accumulator import MAX_EPOCH, Accumulator, PartitionQueue
from ottla.client.backoff import Backoff
from ottla.client.batches import Batch
from ottla.client.config import ProducerConfig
from ottla.client.errors import ClientClosed, ClientError, DeliveryTimeout, ErrorCode
from ottla.client.metadata import Metadata
from ottla.client.transport import ProduceRequest, ProduceResult, Transport
from ottla.client.types import TopicPartition
from ottla.records.batch import encode_batch

logger = logging.getLogger("ottla.client")

# The leader does not know this producer's sequence: see `accumulator`.
_SEQUENCE_ERRORS = frozenset({ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID})
# The leader will not have this producer id and epoch at all.
_PRODUCER_ERRORS = frozenset({ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_PRODUCER_ID_MAPPING})
# Retriable, and told before anything was appended. Others may be told of a batch that is in the log all the same: a
# leader that is replaced while it waits for its followers says NOT_LEADER_OR_FOLLOWER.
_UNWRITTEN_RETRIABLE = frozenset({ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.CORRUPT_MESSAGE})
# Retriable, and nothing that new metadata would mend.
_NOT_METADATA_ERRORS = frozenset(
    {ErrorCode.CORRUPT_MESSAGE, ErrorCode.THROTTLING_QUOTA_EXCEEDED, ErrorCode.CONCURRENT_TRANSACTIONS}
)


class Sender:
    """The way from the accumulator to the transport, and back with the answers."""

    def __init__(
        self, config: ProducerConfig, transport: Transport, metadata: Metadata, accumulator: Accumulator
    ) -> None:
        self._config = config
        self._transport = transport
        self._metadata = metadata
        self._accumulator = accumulator
        self._backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
        self._compression = config.compression()
        self._loop = asyncio.get_running_loop()
        self._in_flight: defaultdict[int, int] = defaultdict(int)  # requests by node
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0.0
        self._producer_id = -1
        self._producer_epoch = -1
        self._producer_id_task: asyncio.Task[None] | None = None
        self._settled_listener: Callable[[], object] = lambda: None
        self._failed_listener: Callable[[ClientError], object] = lambda error: None
        self._transactional_id = config.transactional_id
        self.has_sent = False  # something, since the transaction began
        self._closed = False
        metadata.on_update(self._on_metadata)

    def now_ms(self) -> float:
        """The loop's clock."""
        return self._loop.time() * 1000

    def wake(self) -> None:
        """Look soon what there is to send."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._round)

    def wake_at(self, at_ms: float) -> None:
        """Look at this time, or earlier."""
        if self._closed or (self._timer is not None and self._timer_at_ms <= at_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_ms = at_ms
        # A microsecond later: by the rounding of floats it would be too early, again and again.
        self._timer = self._loop.call_at((at_ms + 0.001) / 1000, self._on_timer)

    def wake_in(self, delay_ms: float) -> None:
        """Look after a while, or earlier."""
        self.wake_at(self.now_ms() + delay_ms)

    def on_settled(self, listener: Callable[[], object]) -> None:
        """Call `listener` whenever a batch is acknowledged or given up."""
        self._settled_listener = listener

    def on_failed(self, listener: Callable[[ClientError], object]) -> None:
        """Call `listener` whenever a batch is given up."""
        self._failed_listener = listener

    def go_on_as(self, producer_id: int, producer_epoch: int) -> None:
        """With transactions: who writes from now on, in every partition from sequence 0."""
        self._producer_id, self._producer_epoch = producer_id, producer_epoch
        for queue in self._accumulator.queues.values():
            queue.restart_sequences(producer_id, producer_epoch)
        self.has_sent = False
        self.wake()

    def abandon(self, error: ClientError) -> None:
        """Send no more of what was accepted; answers that come yet say nothing any more."""
        for batch in list(self._accumulator.unsettled):
            self._settle(batch)
            batch.fail(located(error, batch.topic_partition))

    def close(self) -> None:
        """Stop sending; what is not settled fails."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._producer_id_task is not None:
            self._producer_id_task.cancel()
        for batch in list(self._accumulator.unsettled):  # closed, so that no partition begins anew
            error = ClientClosed("the producer was closed before the record was acknowledged")
            self._fail(batch, located(error, batch.topic_partition))

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    def _on_metadata(self) -> None:
        if self._config.enable_idempotence:  # else whoever waits for the old leader's answer makes no duplicate
            for queue in self._accumulator.queues.values():
                leader = self._metadata.leader_id(queue.topic_partition) if queue.in_flight else -1
                if leader >= 0:
                    self._follow_leader(queue, leader)
        self.wake()

    def _follow_leader(self, queue: PartitionQueue, leader: int) -> None:
        now = self.now_ms()
        for batch in [batch for batch in queue.in_flight if batch.node_id != leader]:
            batch.doubt()
            self._accumulator.put_back(batch, now)
        self._restart_when_drained(queue)

    def _round(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        now = self.now_ms()
        self._expire(now)
        if self._config.enable_idempotence and self._producer_id < 0:
            if self._accumulator.busy and self._transactional_id is None:
                self._ask_for_producer_id()
            return
        self._send_ready(now)
        next_at = self._accumulator.next_ready_at()
        if next_at is not None and next_at > now:
            self.wake_at(next_at)
        if self._accumulator.unsettled:
            oldest = next(iter(self._accumulator.unsettled))
            self.wake_at(oldest.created_ms + self._config.delivery_timeout_ms)

    def _send_ready(self, now: float) -> None:
        limit = self._config.max_in_flight_requests_per_connection
        by_node: dict[int, list[PartitionQueue]] = {}
        for queue in self._accumulator.ready(now):
            leader = self._metadata.leader_id(queue.topic_partition)
            if leader < 0:
                self._metadata.request_update()
            elif self._in_flight[leader] < limit:
                by_node.setdefault(leader, []).append(queue)
        for node_id, queues in by_node.items():
            while queues and self._in_flight[node_id] < limit:
                self._send(node_id, self._take(queues, node_id))
                queues = [queue for queue in queues if self._accumulator.is_ready(queue, now)]

    def _take(self, queues: list[PartitionQueue], node_id: int) -> list[Batch]:
        """The first batch of each queue, as far as they fit into one request."""
        batches: list[Batch] = []
        size = 0
        for queue in queues:
            first = queue.waiting[0]
            if batches and size + first.size_bytes > self._config.max_request_size:
                break
            size += first.size_bytes
            batches.append(self._accumulator.take(queue, node_id))
        return batches

    def _send(self, node_id: int, batches: list[Batch]) -> None:
        request = ProduceRequest(
            self._config.required_acks,
            self._config.request_timeout_ms,
            [(batch.topic_partition, self._encoded(batch)) for batch in batches],
            self._transactional_id,
        )
        self.has_sent = True
        self._in_flight[node_id] += 1
        answer = self._transport.produce(node_id, request)
        answer.add_done_callback(partial(self._on_answer, node_id, [(batch, batch.attempts) for batch in batches]))

    def _encoded(self, batch: Batch) -> bytes:
        if batch.encoded is None:
            if self._config.enable_idempotence:
                queue = self._accumulator.queues[batch.topic_partition]
                if queue.producer_id < 0:
                    queue.restart_sequences(self._producer_id, self._producer_epoch)
                queue.assign_sequence(batch)
            batch.encoded = encode_batch(
                batch.records,
                compression=self._compression,
                producer_id=batch.producer_id,
                producer_epoch=batch.producer_epoch,
                base_sequence=batch.base_sequence,
                is_transactional=self._transactional_id is not None,
            )
        return batch.encoded

    def _on_answer(
        self,
        node_id: int,
        sent: list[tuple[Batch, int]],  # each with the number of the attempt
        answer: "asyncio.Future[dict[TopicPartition, ProduceResult]]",
    ) -> None:
        self._in_flight[node_id] -= 1
        lost: ClientError | None = None
        results: dict[TopicPartition, ProduceResult] = {}
        if answer.cancelled():
            lost = ClientError(ErrorCode.NETWORK_EXCEPTION, "the request was dropped")
        else:
            error = answer.exception()
            if error is None:
                results = answer.result()
            elif isinstance(error, ClientError):
                lost = error
            else:
                # A defect, not a state of the network: tell it, and fail what was sent.
                lost = ClientError(ErrorCode.UNKNOWN_SERVER_ERROR, f"{type(error).__name__}: {error}")
        missing = ProduceResult(ClientError(ErrorCode.UNKNOWN_SERVER_ERROR, "the answer leaves it out"), -1, -1)
        for batch, attempt in sent:
            if batch.done or self._closed:
                continue
            result = results.get(batch.topic_partition, missing) if lost is None else ProduceResult(lost, -1, -1)
            if batch.waiting or batch.attempts != attempt:  # sent to another leader meanwhile, or to be
                if result.error is None:
                    self._acknowledge(batch, result)
                continue
            queue = self._accumulator.queues[batch.topic_partition]
            # What ends a connection says nothing of the single requests on it.
            if result.error is not None and (lost is not None or not _is_unwritten(result.error)):
                batch.doubt()
            self._on_result(queue, batch, result)
            self._restart_when_drained(queue)
        self.wake()

    def _on_result(self, queue: PartitionQueue, batch: Batch, result: ProduceResult) -> None:
        error = result.error
        if error is None or error.code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self._acknowledge(batch, result)
            return
        now = self.now_ms()
        retry_at = now + self._backoff.delay_ms(batch.attempts)
        # A transaction ends with such an error: what was lost of it must not be missing in silence.
        goes_on_alone = self._config.enable_idempotence and self._transactional_id is None
        is_out_of_order = error.code in _SEQUENCE_ERRORS and batch.base_sequence >= 0
        if is_out_of_order and not queue.is_first_unsettled(batch):
            self._accumulator.put_back(batch, retry_at)  # it comes after those before it
        elif is_out_of_order and goes_on_alone:
            if batch.may_be_written and self._is_in_doubt(batch, now):
                self._metadata.request_update()
                logger.debug("%s: sending again", error)
            else:
                logger.warning("%s: the partition goes on under a new producer epoch", error)
                queue.resetting = True
            self._accumulator.put_back(batch, retry_at)
        elif goes_on_alone and error.code in _PRODUCER_ERRORS:
            logger.warning("%s: the partition goes on under a new producer id", error)
            queue.resetting = True
            queue.producer_epoch = MAX_EPOCH
            self._accumulator.put_back(batch, now)
        elif error.retriable and batch.attempts <= self._config.retries:
            if error.code not in _NOT_METADATA_ERRORS:
                self._metadata.request_update()
            logger.debug("%s: sending again", error)
            self._accumulator.put_back(batch, retry_at)
        else:
            if not batch.may_be_written:  # else the next batch under this sequence could be taken for its duplicate
                queue.take_back_sequence(batch)
            self._fail(batch, located(error, batch.topic_partition))

    def _is_in_doubt(self, batch: Batch, now: float) -> bool:
        """Whether it may be a leader that was replaced who misses what came before a batch, so that another knows it.

        That does not last as long as a request may take.
        """
        if batch.refused_since_ms is None:
            batch.refused_since_ms = now
        return now - batch.refused_since_ms < self._config.request_timeout_ms

    def _restart_when_drained(self, queue: PartitionQueue) -> None:
        """When no request of the partition is under way: its next epoch, or when there is none a new producer id."""
        if not queue.resetting or queue.in_flight or self._closed:
            return
        queue.resetting = False
        for batch in queue.doubtful():
            message = (
                f"sent {batch.attempts} times and perhaps written, but the leader misses what came before it: "
                "to send it once more could write it twice"
            )
            error = ClientError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, message)
            self._fail(batch, located(error, batch.topic_partition))
        if queue.producer_epoch < MAX_EPOCH:
            queue.restart_sequences(queue.producer_id, queue.producer_epoch + 1)
            return
        if self._producer_id == queue.producer_id:
            self._producer_id = -1  # the next round asks for another
        queue.restart_sequences(-1, -1)

    def _acknowledge(self, batch: Batch, result: ProduceResult) -> None:
        self._accumulator.queues[batch.topic_partition].is_known = True
        self._settle(batch)
        batch.complete(result.base_offset, result.log_append_time_ms)

    def _settle(self, batch: Batch) -> None:
        self._accumulator.settle(batch)
        self._settled_listener()
        self._restart_when_drained(self._accumulator.queues[batch.topic_partition])

    def _fail(self, batch: Batch, error: ClientError) -> None:
        self._settle(batch)
        logger.warning("%d records were not delivered: %s", len(batch.records), error)
        self._failed_listener(error)
        batch.fail(error)

    def _expire(self, now: float) -> None:
        limit = now - self._config.delivery_timeout_ms
        while self._accumulator.unsettled:
            batch = next(iter(self._accumulator.unsettled))
            if batch.created_ms > limit:
                break
            sent = f"sent {batch.attempts} times" if batch.attempts else "never sent"
            message = f"not acknowledged within delivery_timeout_ms={self._config.delivery_timeout_ms} ({sent})"
            self._fail(batch, located(DeliveryTimeout(ErrorCode.REQUEST_TIMED_OUT, message), batch.topic_partition))

    def _ask_for_producer_id(self) -> None:
        if self._producer_id_task is None or self._producer_id_task.done():
            self._producer_id_task = asyncio.create_task(self._get_producer_id(), name="ottla-client-producer-id")

    async def _get_producer_id(self) -> None:
        attempts = 0
        while self._producer_id < 0:
            try:
                self._producer_id, self._producer_epoch = await self._transport.init_producer_id()
            except ClientError as error:
                if not error.retriable:
                    while self._accumulator.unsettled:
                        batch = next(iter(self._accumulator.unsettled))
                        self._fail(batch, located(error, batch.topic_partition))
                    return
                logger.debug("no producer id yet: %s", error)
                self._expire(self.now_ms())
                if not self._accumulator.unsettled:
                    return
                attempts += 1
                await asyncio.sleep(self._backoff.delay_ms(attempts) / 1000)
        self.wake()


def located(error: ClientError, topic_partition: TopicPartition) -> ClientError:
    """An error of the same kind that tells the partition."""
    return error if error.topic is not None else error.at(*topic_partition)


def _is_unwritten(error: ClientError) -> bool:
    """Whether a batch which a leader answers so is not in the log by this attempt, and never will be."""
    code = error.code
    if code in _UNWRITTEN_RETRIABLE:
        return True
    return not (error.retriable or code.retriable or code is ErrorCode.UNKNOWN_SERVER_ERROR)
