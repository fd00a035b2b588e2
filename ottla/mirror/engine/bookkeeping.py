"""The progress topic of one cluster, read from its beginning and followed: a ledger that is always nearly up to date.

Tasks add what they committed themselves at once; what the topic tells of it later is passed over (`Ledger.replay`).
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from ottla.client.backoff import Backoff
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from ottla.client.types import NewTopic, TopicPartition
from ottla.core.errors import DecodeError
from ottla.mirror.core.advice import DENIED
from ottla.mirror.core.outage import Waiting
from ottla.mirror.core.progress import PROGRESS_CONFIGS, PROGRESS_TOPIC, Ledger
from ottla.mirror.engine.reading import SourceReader
from ottla.mirror.engine.reports import Reports
from ottla.mirror.engine.side import Side
from ottla.records.aborted import AbortedFilter
from ottla.records.batch import decode_records, iterate_headers

logger = logging.getLogger("ottla.mirror")

_MEMORY_BYTES: Final = 16 << 20
_PARTITION_BYTES: Final = 1 << 20
_WAIT_MS: Final = 1_000
QUIET_TRIES: Final = 3  # such as a leader that moves costs


class Bookkeeping:
    """The ledger of one cluster. `start` it before `catch_up`."""

    def __init__(self, side: Side) -> None:
        self.ledger = Ledger()
        self.reports = Reports()
        self._side = side
        self._reader = SourceReader(
            side, owner=PROGRESS_TOPIC, memory_bytes=_MEMORY_BYTES, partition_bytes=_PARTITION_BYTES, wait_ms=_WAIT_MS
        )
        self._positions: dict[TopicPartition, int] = {}
        self._moved = asyncio.Condition()
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._broken: Exception | None = None
        self._denied: dict[TopicPartition, ClientError] = {}

    async def ensure_topic(self, partitions: int, replication_factor: int, timeout_ms: int) -> int:
        """Create the topic where it is missing; how many partitions it has."""
        topic = self._side.topics.get(PROGRESS_TOPIC)
        if topic is None:
            await create_topic(
                self._side,
                NewTopic(
                    PROGRESS_TOPIC,
                    partitions,
                    replication_factor if replication_factor > 0 else None,
                    configs=PROGRESS_CONFIGS,
                ),
                timeout_ms,
            )
            topic = self._side.topics[PROGRESS_TOPIC]
        return len(topic.partitions)

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        await self._reader.close()

    async def catch_up(self, partitions: Mapping[int, object] | None = None, *, committed_only: bool = False) -> None:
        """Read up to where these partitions (or all) end now, also behind transactions that are open there now.

        `committed_only`: not behind those. A mirror that was killed leaves them open until they time out; whoever goes
        on in its place does not wait so long to begin, but ends them before it writes, and then makes sure.

        Raises ClientError, also when the right to read it is missing, and DecodeError when a newer mirror wrote there.
        """
        if PROGRESS_TOPIC not in self._side.topics:
            await self._side.refresh()
        topic = self._side.topics.get(PROGRESS_TOPIC)
        if topic is None:
            return
        wanted = [
            TopicPartition(PROGRESS_TOPIC, one.partition)
            for one in topic.partitions
            if partitions is None or one.partition in partitions
        ]
        for partition in wanted:
            self._denied.pop(partition, None)  # it may be allowed by now: the next try tells
        ends = await asyncio.gather(
            *(self._side.offset_at(one, LATEST_TIMESTAMP, read_committed=committed_only) for one in wanted)
        )
        for partition in wanted:
            if partition not in self._tasks:
                self._tasks[partition] = asyncio.create_task(
                    self._follow(partition), name=f"ottla-mirror-ledger-{self._side.alias}-{partition.partition}"
                )
        async with self._moved:
            await self._moved.wait_for(
                lambda: (
                    self._broken is not None
                    or not self._denied.keys().isdisjoint(wanted)
                    or all(self._positions.get(one, 0) >= end for one, end in zip(wanted, ends, strict=True))
                )
            )
        if self._broken is not None:
            raise self._broken
        for partition in wanted:
            if partition in self._denied:
                raise self._denied[partition]

    async def _follow(self, partition: TopicPartition) -> None:
        backoff = Backoff(100, 5_000)
        failures, said = 0, ""
        while True:
            try:
                position = self._positions.get(partition)
                if position is None:
                    position = await self._side.offset_at(partition, EARLIEST_TIMESTAMP, read_committed=True)
                    await self._reached(partition, position)
                fetched = await self._reader.read(partition, self._topic_id(), position)
                try:
                    position = self._take(fetched.data, position, fetched.aborted)
                finally:
                    self._reader.release(len(fetched.data))
                await self._reached(partition, position)
                failures, said = 0, ""
            except ClientError as error:
                failures += 1
                is_said = self._side.outages.failed(Waiting(PROGRESS_TOPIC, partition), error)
                if not is_said and failures >= QUIET_TRIES and said != str(error):
                    said = str(error)
                    logger.warning("%s: the progress topic cannot be read: %s", self._side.alias, error)
                if error.code in DENIED:
                    async with self._moved:
                        self._denied[partition] = error
                        self._moved.notify_all()
                if error.code is ErrorCode.OFFSET_OUT_OF_RANGE:
                    del self._positions[partition]
                await asyncio.sleep(backoff.delay_ms(failures) / 1000)
                await self._refresh()
            except (DecodeError, ValueError) as error:
                logger.exception("%s: the progress topic makes no sense", self._side.alias)
                async with self._moved:
                    self._broken = error
                    self._moved.notify_all()
                return

    def _topic_id(self) -> str:
        topic_id = self._side.topic_id(PROGRESS_TOPIC)
        if topic_id is None:  # whom we asked last does not know it, or not yet
            raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "it is not there", topic=PROGRESS_TOPIC)
        return topic_id

    async def _refresh(self) -> None:
        try:
            await self._side.refresh()
        except ClientError as error:
            logger.debug("%s: %s", self._side.alias, error)

    def _take(self, data: bytes | bytearray | memoryview, position: int, aborted: tuple[tuple[int, int], ...]) -> int:
        left_out = AbortedFilter(aborted)
        for start, header in iterate_headers(data, allow_partial=True):
            records = decode_records(data, start)
            if not left_out(header, records):
                for record in records:
                    if record.offset >= position and record.key is not None:
                        self.ledger.replay(record.key, record.value)
                        self.reports.take(record.key, record.value)
            position = max(position, header.next_offset)
        return position

    async def _reached(self, partition: TopicPartition, position: int) -> None:
        async with self._moved:
            self._positions[partition] = position
            self._denied.pop(partition, None)
            self._moved.notify_all()


async def create_topic(side: Side, topic: NewTopic, timeout_ms: int) -> None:
    """Create a topic, unless somebody else has meanwhile; returns when its leaders are known."""

    async def create() -> None:
        results = await side.transport.create_topics([topic], timeout_ms=timeout_ms, validate_only=False)
        result = results[topic.name]
        if isinstance(result, ClientError) and result.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            raise side.explained(result, "Create", topic.name)

    async def is_known() -> None:
        await side.refresh()
        found = side.topics.get(topic.name)
        if found is None or any(one.leader_id < 0 for one in found.partitions):
            raise ClientError(ErrorCode.LEADER_NOT_AVAILABLE, "no leaders yet", topic=topic.name)

    await side.patiently(create, timeout_ms / 1000)
    await side.patiently(is_known, timeout_ms / 1000)
