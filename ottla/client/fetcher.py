"""Reads ahead for a consumer: finds positions, keeps one long poll open for each leader, bounded by bytes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from ottla.client.backoff import Backoff
from ottla.client.config import ConsumerConfig
from ottla.client.coordination import OffsetAndMetadata
from ottla.client.decoding import Chunk
from ottla.client.errors import ClientError, ErrorCode, NoOffset
from ottla.client.metadata import Metadata
from ottla.client.offsets import list_offsets
from ottla.client.partitions import PartitionState
from ottla.client.transport import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    FetchPartition,
    FetchRequest,
    FetchResult,
    Transport,
)
from ottla.client.types import TopicPartition
from ottla.core.errors import DecodeError

logger = logging.getLogger("ottla.client")

Committed = Callable[
    [Sequence[TopicPartition]], Awaitable[dict[TopicPartition, OffsetAndMetadata | ClientError | None]]
]

RESET_TIMESTAMPS = {"earliest": EARLIEST_TIMESTAMP, "latest": LATEST_TIMESTAMP, "none": None}
# Partitions that become readable while a long poll is open get one of their own, but not one each.
_MAX_FETCHES_PER_NODE = 4


class Fetcher:
    """The partitions that are assigned, and the requests that are under way for them."""

    def __init__(
        self, config: ConsumerConfig, transport: Transport, metadata: Metadata, committed: Committed | None = None
    ) -> None:
        self._committed = committed  # where a group's partitions are read on; None: there is no group
        self._config = config
        self._transport = transport
        self._metadata = metadata
        self._backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
        self._read_committed = config.isolation_level == "read_committed"
        self._loop = asyncio.get_running_loop()
        self._fetches: dict[int, int] = {}  # by node
        self._resolving = False
        self._failures = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._timer: asyncio.Handle | None = None  # uvloop's for a moment that has come does not tell its time
        self._timer_at = 0.0
        self._closed = False
        self.partitions: dict[TopicPartition, PartitionState] = {}
        self.arrived = asyncio.Event()  # data, a position or an error
        self.error: ClientError | None = None  # for the next call of the user
        metadata.on_update(self.wake)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Exactly these; those that stay keep their position."""
        reset = RESET_TIMESTAMPS[self._config.auto_offset_reset]
        before, self.partitions = self.partitions, {}
        for partition in partitions:
            kept = before.pop(partition, None)
            if kept is None:
                kept = PartitionState(partition, reset, wants_committed=self._committed is not None)
            self.partitions[partition] = kept
        for state in before.values():
            state.generation += 1
        self.wake()

    def wake(self) -> None:
        """Look soon what there is to ask for."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._round)

    def forget_error(self, partition: TopicPartition) -> None:
        """The partition got a new position: what was wrong with the old one is of no interest any more."""
        if self.error is not None and (self.error.topic, self.error.partition) == partition:
            self.error = None

    async def close(self) -> None:
        """Drop every request."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _round(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        now = self._loop.time()
        buffered = sum(state.buffered_bytes for state in self.partitions.values())
        by_node: dict[int, list[PartitionState]] = {}
        unresolved: list[PartitionState] = []
        for state in self.partitions.values():
            if state.fetching:
                continue
            if state.retry_at > now:
                self._wake_at(state.retry_at)
            elif state.position is None:
                unresolved.append(state)
            elif (
                not state.paused
                and state.buffered_bytes < self._config.max_partition_fetch_bytes
                and buffered < self._config.prefetch_max_bytes
            ):
                leader = self._metadata.leader_id(state.topic_partition)
                if leader < 0:
                    self._retry(state, now)
                    self._metadata.request_update()
                else:
                    by_node.setdefault(leader, []).append(state)
        if unresolved and not self._resolving:
            self._resolving = True
            self._spawn(self._resolve(unresolved))
        for node_id, states in by_node.items():
            if self._fetches.get(node_id, 0) < _MAX_FETCHES_PER_NODE:
                self._fetches[node_id] = self._fetches.get(node_id, 0) + 1
                for state in states:
                    state.fetching = True
                self._spawn(self._fetch(node_id, [(state, state.generation) for state in states]))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine, name="ottla-client-fetch")
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (defect := task.exception()) is not None:
            error = ClientError(ErrorCode.UNKNOWN_SERVER_ERROR, f"{type(defect).__name__}: {defect}")
            error.__cause__ = defect
            self._fail(error)

    def _fail(self, error: ClientError) -> None:
        self.error = self.error or error
        self.arrived.set()

    def _retry(self, state: PartitionState, now: float) -> None:
        state.retry_at = now + self._backoff.delay_ms(1) / 1000
        self._wake_at(state.retry_at)

    def _wake_at(self, at: float) -> None:
        if self._timer is None or self._timer_at > at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = self._loop.call_at(at, self._on_timer), at

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    async def _fetch(self, node_id: int, states: list[tuple[PartitionState, int]]) -> None:
        config = self._config
        request = FetchRequest(
            config.fetch_max_wait_ms,
            config.fetch_min_bytes,
            config.fetch_max_bytes,
            self._read_committed,
            [
                FetchPartition(state.topic_partition, state.fetch_offset, config.max_partition_fetch_bytes)
                for state, _ in states
            ],
        )
        lost: ClientError | None = None
        results: dict[TopicPartition, FetchResult] = {}
        try:
            results = {result.topic_partition: result for result in await self._transport.fetch(node_id, request)}
        except ClientError as failure:
            logger.debug("fetch from node %d: %s", node_id, failure)
            lost = failure
            self._metadata.request_update()
        finally:
            self._fetches[node_id] -= 1
            for state, generation in states:
                if state.generation == generation:
                    state.fetching = False
        now = self._loop.time()
        for state, generation in states:
            if state.generation != generation:
                continue
            result = results.get(state.topic_partition)
            error = lost if result is None else result.error
            if error is not None:
                self._on_error(state, error, now)
            elif result is not None and len(result.batches):
                self._on_data(state, result)
            elif result is not None:
                state.high_watermark = result.high_watermark
        self.wake()

    def _on_data(self, state: PartitionState, result: FetchResult) -> None:
        state.high_watermark = result.high_watermark
        try:
            chunk = Chunk(result, read_committed=self._read_committed, check_crcs=self._config.check_crcs)
        except DecodeError as error:
            partition = state.topic_partition
            self._fail(
                ClientError(ErrorCode.CORRUPT_MESSAGE, str(error), topic=partition.topic, partition=partition.partition)
            )
            self._retry(state, self._loop.time())
            return
        state.add(chunk)
        self.arrived.set()

    def _on_error(self, state: PartitionState, error: ClientError, now: float) -> None:
        partition = state.topic_partition
        if error.code is ErrorCode.OFFSET_OUT_OF_RANGE:
            reset = RESET_TIMESTAMPS[self._config.auto_offset_reset]
            if reset is None:
                message = f"offset {state.fetch_offset} is not there, and auto_offset_reset is none: seek to another"
                self._fail(NoOffset(error.code, message, topic=partition.topic, partition=partition.partition))
                self._retry(state, now)
            else:
                logger.warning(
                    "%s-%d: offset %d is out of range, reading on from the %s",
                    *partition,
                    state.fetch_offset,
                    self._config.auto_offset_reset,
                )
                state.reset(reset)
            return
        self._retry(state, now)
        if error.retriable:
            self._metadata.request_update()
        else:
            self._fail(error if error.topic is not None else error.at(*partition))

    async def _resolve(self, states: list[PartitionState]) -> None:
        """Find the positions of partitions that have none."""
        wanted: dict[TopicPartition, int] = {}
        asked: dict[TopicPartition, tuple[PartitionState, int]] = {}
        try:
            await self._resolve_committed([state for state in states if state.wants_committed])
            for state in states:
                if state.position is not None or state.wants_committed:
                    continue  # found, sought by somebody meanwhile, or to be asked for again
                partition = state.topic_partition
                if state.reset_timestamp is None:
                    message = "there is no position, and auto_offset_reset is none: seek to an offset first"
                    code = ErrorCode.OFFSET_OUT_OF_RANGE
                    self._fail(NoOffset(code, message, topic=partition.topic, partition=partition.partition))
                    self._retry(state, self._loop.time())
                else:
                    wanted[partition] = state.reset_timestamp
                    asked[partition] = (state, state.generation)
            found = await list_offsets(self._transport, self._metadata, wanted, read_committed=self._read_committed)
            now = self._loop.time()
            for partition, (state, generation) in asked.items():
                if state.generation != generation or state.position is not None:
                    continue
                answer = found[partition]
                if isinstance(answer, ClientError):
                    self._on_error(state, answer, now)
                else:
                    state.seek(answer.offset)
                    self.arrived.set()
        finally:
            self._resolving = False
            self.wake()

    async def _resolve_committed(self, states: list[PartitionState]) -> None:
        """Go on where the group is; `wants_committed` stays with partitions of which that could not be learnt."""
        if not states or self._committed is None:
            return
        asked = [(state, state.generation) for state in states]
        found: dict[TopicPartition, OffsetAndMetadata | ClientError | None] = {}
        try:
            found = await self._committed([state.topic_partition for state in states])
        except ClientError as failure:
            logger.debug("no committed offsets yet: %s", failure)
            found = dict.fromkeys((state.topic_partition for state in states), failure)
        now = self._loop.time()
        for state, generation in asked:
            if state.generation != generation or state.position is not None:
                continue
            committed = found.get(state.topic_partition)
            if isinstance(committed, ClientError):
                self._on_error(state, committed, now)
                continue
            state.wants_committed = False
            if committed is not None:
                state.seek(committed.offset)
                state.committed = committed.offset
                self.arrived.set()
