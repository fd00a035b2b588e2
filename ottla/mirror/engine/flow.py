"""One flow in one process: what is to be copied, and a copier for each partition that is this process's share."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from ottla.client.errors import ClientError, PartialFailure
from ottla.client.types import TopicPartition
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.exact import Found
from ottla.mirror.core.partition_task import PartitionTask, TaskPolicy
from ottla.mirror.core.progress import MapId, progress_partition
from ottla.mirror.core.provenance import Origins
from ottla.mirror.core.runs import Run
from ottla.mirror.engine.bookkeeping import Bookkeeping
from ottla.mirror.engine.copier import Flow, PartitionCopier
from ottla.mirror.engine.copying import Copier
from ottla.mirror.engine.exact_copying import ExactCopier
from ottla.mirror.engine.exact_topics import ExactTopics
from ottla.mirror.engine.reading import SourceReader
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.throttle import Throttle
from ottla.mirror.engine.topics import ensure_topic, keep_configs, keep_topics, missing_topics
from ottla.mirror.engine.troubles import Troubles
from ottla.mirror.engine.turns import Turns

logger = logging.getLogger("ottla.mirror")

_PARTITION_BYTES: Final = 8 << 20  # eight of them, on the way or being written, fit the default of ottla.memory.bytes
_EXACT_BYTES: Final = 4 << 20  # as fast, and gRPC holds a message several times over on its way in and out
_DEAD_LETTER_BYTES: Final = 64 << 20  # records that the copy's own topic refuses find room there


class FlowRunner:
    """Runs until it is closed. `take` says which partitions of the progress topic are ours; with them go the maps."""

    def __init__(
        self,
        config: FlowConfig,
        source: Side,
        target: Side,
        books: Bookkeeping,
        source_books: Bookkeeping,
        progress_partitions: int,
        on_copied: Callable[[FlowConfig, TopicPartition, TopicPartition, Sequence[Run]], None],
    ) -> None:
        self.config = config
        self.source, self.target, self.books = source, target, books
        self.copiers: dict[TopicPartition, PartitionCopier] = {}
        self.names: dict[str, str] = {}  # of topics on the target, by those on the source
        self._reader = SourceReader(
            source,
            owner=config.name,
            memory_bytes=config.memory_bytes,
            partition_bytes=min(config.transaction_bytes, _EXACT_BYTES if config.exact else _PARTITION_BYTES),
            wait_ms=config.poll_timeout_ms,
            read_committed=not config.exact,
        )
        self.troubles = Troubles(config.name)
        self._exact = ExactTopics(config, source, target, self.troubles) if config.exact else None
        self._wake = asyncio.Event()
        self._shared = Flow(
            config=config,
            source=source,
            target=target,
            reader=self._reader,
            books=books,
            source_books=source_books,
            origins=Origins(source_books.ledger) if config.policy.keeps_names and not config.exact else None,
            throttle=Throttle(config.throttle_bytes_per_second),
            turns=Turns(self._reader.much_bytes),
            progress_partitions=progress_partitions,
            request_discovery=self._wake.set,
            on_copied=lambda *copied: on_copied(config, *copied),
        )
        self._share: frozenset[int] = frozenset()
        self._running: dict[TopicPartition, asyncio.Task[None]] = {}
        self._discovery: asyncio.Task[None] | None = None

    def known_names(self) -> dict[str, str]:
        """Of topics on the target, by those on the source."""
        return self.names

    @property
    def standings(self) -> dict[str, Found]:
        """Of an exact flow: what each topic of the source is to it."""
        return {} if self._exact is None else self._exact.found

    def start(self) -> None:
        """Begin to look for topics."""
        self._discovery = asyncio.create_task(self._discover(), name=f"ottla-mirror-discover-{self.config.name}")

    async def close(self) -> None:
        """Stop everything; what is not committed is copied again by whoever comes next."""
        if self._discovery is not None:
            self._discovery.cancel()
            await asyncio.wait([self._discovery])
        await self._stop(list(self._running))
        await self._reader.close()

    async def take(self, share: frozenset[int]) -> None:
        """These are ours from now on; returns when nothing is written any more for those that are not."""
        self._share = share
        await self._stop(
            [one for one, copier in self.copiers.items() if self._share_of(copier.task.map_id) not in share]
        )
        self._wake.set()

    def _share_of(self, map_id: MapId) -> int:
        return progress_partition(map_id, self._shared.progress_partitions)

    async def _discover(self) -> None:
        config = self.config
        interval_ms = config.refresh_topics_ms
        configs_at = 0.0
        while True:
            self._wake.clear()
            loop = asyncio.get_running_loop()
            try:
                await asyncio.gather(self.source.refresh(), self.target.refresh())
                if interval_ms is not None or not self.names:
                    self.names = await self._keep_topics()
                    self.troubles.keep("missing", await missing_topics(config, self.source))
                await self._dead_letters()
                await self._assign()
                if config.sync_topic_configs_ms is not None and loop.time() >= configs_at:
                    configs_at = loop.time() + config.sync_topic_configs_ms / 1000
                    await keep_configs(config, self.source, self.target, self.names, self.troubles)
            except (ClientError, PartialFailure) as error:
                level = logging.DEBUG if self._is_said(error) else logging.WARNING
                logger.log(level, "%s: topics are not looked for: %s", config.name, error)
            try:
                async with asyncio.timeout((interval_ms or 60_000) / 1000):
                    await self._wake.wait()
                await asyncio.sleep(0.05)  # what wakes comes in flocks
            except TimeoutError:
                pass

    def _is_said(self, error: Exception) -> bool:
        return self.source.outages.covers(error) or self.target.outages.covers(error)

    async def _keep_topics(self) -> dict[str, str]:
        if self._exact is not None:
            return await self._exact.keep()
        return await keep_topics(self.config, self.source, self.target, self.troubles)

    async def _dead_letters(self) -> None:
        if self.config.on_record_too_large != "dead-letter" or self.config.exact:
            return
        for topic in {self.config.dead_letters_of(name) for name in self.names}:
            await ensure_topic(
                self.target,
                topic,
                self.config.replication_factor,
                self.config.admin_timeout_ms,
                {"max.message.bytes": str(_DEAD_LETTER_BYTES)},
            )

    async def _assign(self) -> None:
        """A copier for each partition that is ours, none for others."""
        wanted: dict[TopicPartition, MapId] = {}
        for name, remote in self.names.items():
            original, copy = self.source.topics.get(name), self.target.topics.get(remote)
            if original is None or copy is None:
                continue
            for index in range(min(len(original.partitions), len(copy.partitions))):
                map_id = MapId(self.source.cluster_id, original.topic_id, copy.topic_id, index)
                if self._share_of(map_id) in self._share:
                    wanted[TopicPartition(name, index)] = map_id
        await self._stop(
            [one for one, copier in self.copiers.items() if one not in wanted or copier.task.map_id != wanted[one]]
        )
        for partition, map_id in wanted.items():
            if partition not in self._running:
                self._start(partition, map_id)

    def _start(self, source: TopicPartition, map_id: MapId) -> None:
        config = self.config
        policy = TaskPolicy(
            start=config.start,
            on_topic_recreated=config.on_topic_recreated,
            on_record_too_large=config.on_record_too_large,
            retries=config.retries,
            after_retries=config.after_retries,
            retry_backoff_ms=config.retry_backoff_ms,
            retry_backoff_max_ms=config.retry_backoff_max_ms,
        )
        target = TopicPartition(self.names[source.topic], source.partition)
        kind = ExactCopier if config.exact else Copier
        copier = kind(self._shared, PartitionTask(map_id, policy), source, target)
        self.copiers[source] = copier
        task = asyncio.create_task(copier.run(), name=f"ottla-mirror-{config.name}-{source.topic}-{source.partition}")
        self._running[source] = task
        task.add_done_callback(_report)

    async def _stop(self, partitions: list[TopicPartition]) -> None:
        tasks = [self._running.pop(one) for one in partitions if one in self._running]
        for one in partitions:
            self.copiers.pop(one, None)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s ended by a fault of its own", task.get_name(), exc_info=task.exception())
