"""Sends a producer's batches and settles them: grouping by leader, limits in flight, retries, idempotence, time-outs.

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
        metadata.on_update(self.wake)

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
        self._timer = self._loop.call_at(at_ms / 1000, self._on_timer)

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
        for batch in list(self._accumulator.unsettled):
            error = ClientClosed("the producer was closed before the record was acknowledged")
            self._fail(batch, located(error, batch.topic_partition))

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

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
                self._send(node_id, self._take(queues))
                queues = [queue for queue in queues if queue.waiting and self._accumulator.ready_at(queue) <= now]

    def _take(self, queues: list[PartitionQueue]) -> list[Batch]:
        """The first batch of each queue, as far as they fit into one request."""
        batches: list[Batch] = []
        size = 0
        for queue in queues:
            first = queue.waiting[0]
            if batches and size + first.size_bytes > self._config.max_request_size:
                break
            size += first.size_bytes
            batches.append(self._accumulator.take(queue))
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
        answer.add_done_callback(partial(self._on_answer, node_id, batches))

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
        self, node_id: int, batches: list[Batch], answer: "asyncio.Future[dict[TopicPartition, ProduceResult]]"
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
        for batch in batches:
            queue = self._accumulator.queues[batch.topic_partition]
            queue.in_flight.remove(batch)
            if not batch.done and not self._closed:
                result = results.get(batch.topic_partition, missing) if lost is None else ProduceResult(lost, -1, -1)
                self._on_result(queue, batch, result)
            if queue.resetting and not queue.in_flight:
                self._restart(queue)
        self.wake()

    def _on_result(self, queue: PartitionQueue, batch: Batch, result: ProduceResult) -> None:
        error = result.error
        if error is None or error.code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self._settle(batch)
            batch.complete(result.base_offset, result.log_append_time_ms)
            return
        now = self.now_ms()
        # A transaction ends with such an error: what was lost of it must not be missing in silence.
        goes_on_alone = self._config.enable_idempotence and self._transactional_id is None
        if goes_on_alone and error.code in _SEQUENCE_ERRORS:
            if queue.is_first_unsettled(batch):
                logger.warning("%s: the partition goes on under a new producer epoch", error)
                queue.resetting = True
            self._accumulator.put_back(batch, now)
        elif goes_on_alone and error.code in _PRODUCER_ERRORS:
            logger.warning("%s: the partition goes on under a new producer id", error)
            queue.resetting = True
            queue.producer_epoch = MAX_EPOCH
            self._accumulator.put_back(batch, now)
        elif error.retriable and batch.attempts <= self._config.retries:
            if error.code not in _NOT_METADATA_ERRORS:
                self._metadata.request_update()
            logger.debug("%s: sending again", error)
            self._accumulator.put_back(batch, now + self._backoff.delay_ms(batch.attempts))
        else:
            if batch.attempts == 1 and not error.retriable and error.code is not ErrorCode.UNKNOWN_SERVER_ERROR:
                # Surely not written. After an earlier attempt whose answer got lost it might be, and then the next
                # batch under this sequence would be taken for its duplicate.
                queue.take_back_sequence(batch)
            self._fail(batch, located(error, batch.topic_partition))

    def _restart(self, queue: PartitionQueue) -> None:
        """No request of the partition is under way: its next epoch, or when there is none a new producer id."""
        if queue.producer_epoch < MAX_EPOCH:
            queue.restart_sequences(queue.producer_id, queue.producer_epoch + 1)
            return
        if self._producer_id == queue.producer_id:
            self._producer_id = -1  # the next round asks for another
        queue.restart_sequences(-1, -1)

    def _settle(self, batch: Batch) -> None:
        self._accumulator.settle(batch)
        self._settled_listener()

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
                    for batch in list(self._accumulator.unsettled):
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
