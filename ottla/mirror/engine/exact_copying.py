"""One partition copied byte for byte: batches of the source are appended to the mirror topic as they are.

The target's log itself says where to go on, and refuses whoever believes that it ends elsewhere. So there is nothing to
write beside it, and nothing to fence: a restarted, moved or doubled mirror neither repeats nor leaves out a batch.

Before the first batch, and whenever the source's leader has changed, the two logs are compared where the copy ends
(`core.exact.why_parted`).
"""

import asyncio
import logging
import time
from typing import Final

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.mirrors import MirrorLog, MirrorPartition
from ottla.client.types import TopicPartition
from ottla.core.errors import CorruptBatch
from ottla.core.mirror_topics import MirrorSource
from ottla.core.types import Buffer
from ottla.mirror.core.exact import Whole, whole_batches, why_parted
from ottla.mirror.core.partition_task import PartitionTask, SourceLog, State
from ottla.mirror.engine.copier import Again, Flow, PartitionCopier
from ottla.mirror.engine.raw_batches import is_compacted, raw_batches_at, raw_log
from ottla.mirror.engine.reading import Fetched

logger = logging.getLogger("ottla.mirror")

_TIMEOUT_MS: Final = 15_000
_IDLE_S: Final = 5.0  # how often the log start of a source is followed that says nothing else


class ExactCopier(PartitionCopier):
    """`source` and `target` bear the same name. `_position` is where the source is read: not before the log's end."""

    def __init__(self, flow: Flow, task: PartitionTask, source: TopicPartition, target: TopicPartition) -> None:
        super().__init__(flow, task, source, target)
        map_id = task.map_id
        mirrored = MirrorSource(map_id.source_cluster_id, map_id.source_topic_id, source.topic)
        self._mirror = MirrorPartition(map_id.target_topic_id, target.partition, str(mirrored))
        self._log_end = 0  # of the target
        self._log_start = 0  # of the source, as the target was told
        self._epoch: int | None = None  # of the source's leader with whose log ours was compared

    # -- where to begin

    async def _begin(self) -> None:
        self._asked = self.flow.target
        log = await self._target_log()
        self._asked = source = self.flow.source
        epoch = source.leader(self.source)[1]
        start, end = await raw_log(source, self.source, self.task.map_id.source_topic_id)
        self._log_end, self._log_start = log.log_end_offset, log.log_start_offset
        is_empty = log.log_start_offset == log.log_end_offset
        self._carry_out(self.task.resume_at(log.log_end_offset, SourceLog(start, end), is_empty=is_empty))
        if self.task.state is not State.COPYING:
            return
        if not is_empty and log.log_end_offset > start:
            reason = await self._why_parted(log.log_end_offset, start)
            if reason is not None:
                self._carry_out(self.task.refused(reason))
                return
        if self._log_end < start == end:  # nothing is there to begin with, but it is known where
            await self._append(b"", begin_at=start, log_start_offset=start)
        self._epoch = epoch

    async def _why_parted(self, end_offset: int, source_start: int) -> str | None:
        map_id, last = self.task.map_id, end_offset - 1
        original, copy, compacted = await asyncio.gather(
            raw_batches_at(self.flow.source, self.source, last, map_id.source_topic_id),
            raw_batches_at(self.flow.target, self.target, last, map_id.target_topic_id),
            is_compacted(self.flow.source, self.source.topic),
        )
        return why_parted(original, copy, end_offset, source_start=source_start, compacted=compacted)

    async def _trouble(self, error: ClientError | CorruptBatch) -> None:
        self._epoch = None
        if isinstance(error, ClientError) and error.code is ErrorCode.POLICY_VIOLATION:
            self.flow.request_discovery()  # promoted, or the mirror of something else; or its leader knows less yet
        await self._failed(error)

    # -- one round

    async def _round(self) -> None:
        if self._epoch is None:
            await self._begin()
            return
        fetched = await self._read()
        try:
            if fetched.leader_epoch != self._epoch:
                self._epoch = None
                raise Again("the source has another leader: its log is compared again")
            whole = whole_batches(fetched.data)
            if whole is None:
                raise ClientError(ErrorCode.CORRUPT_MESSAGE, "the source sent no whole batch").at(*self.source)
            if whole.next_offset < fetched.high_watermark:
                self._read_ahead(whole.next_offset, whole.size)
            async with self.flow.turns.turn(whole.size):
                await self._append(
                    memoryview(fetched.data)[: whole.size],
                    begin_at=whole.base_offset if self._log_end < min(self._position, whole.base_offset) else None,
                    log_start_offset=fetched.log_start_offset,
                )
            self._count(whole)
        finally:
            self.flow.reader.release(len(fetched.data))
        await self.flow.throttle.took(whole.size)

    async def _append(self, batches: Buffer, *, begin_at: int | None, log_start_offset: int) -> None:
        self._asked = self.flow.target
        log = await self.flow.target.transport.mirrors.append(
            self._target_leader(),
            self._mirror,
            batches,
            expected_end_offset=self._log_end,
            log_start_offset=log_start_offset,
            begin_at=begin_at,
            timeout_ms=_TIMEOUT_MS,
        )
        self._log_start = log_start_offset
        self._log_end = self._position = log.log_end_offset
        self.task.copied(self._position)

    async def _read(self) -> Fetched:
        if self._ahead is None:
            self._read_ahead(self._position)
        while True:
            ahead = self._ahead
            assert ahead is not None
            await asyncio.wait({ahead}, timeout=_IDLE_S)
            if ahead.done():
                self._ahead, self._asked = None, self.flow.source
                return ahead.result()
            start = self.flow.reader.ends.get(self.source, (-1, -1))[1]
            if self._log_start < start <= self._log_end:
                await self._append(b"", begin_at=None, log_start_offset=start)

    async def _target_log(self) -> MirrorLog:
        return await self.flow.target.transport.mirrors.log_of(self._target_leader(), self._mirror)

    def _target_leader(self) -> int:
        node_id, _ = self.flow.target.leader(self.target)
        if node_id < 0:
            raise ClientError(ErrorCode.LEADER_NOT_AVAILABLE, "no leader is known").at(*self.target)
        return node_id

    def _count(self, whole: Whole) -> None:
        figures = self.figures
        figures.records += whole.records
        figures.bytes += whole.size
        figures.transactions += 1
        figures.last_timestamp_ms = max(figures.last_timestamp_ms, whole.last_timestamp_ms)
        figures.committed_at_ms = int(time.time() * 1000)
