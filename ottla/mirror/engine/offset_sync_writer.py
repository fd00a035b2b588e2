"""MM2's offset syncs, for tools that read them: written now and then, by nobody waited for."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from ottla.client.errors import ClientError
from ottla.client.types import TopicPartition
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.mm2_records import OffsetSync
from ottla.mirror.core.offset_syncs import OffsetSyncs
from ottla.mirror.core.runs import Run
from ottla.mirror.engine.plain_writer import write_records
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.topics import ensure_topic

logger = logging.getLogger("ottla.mirror")

_CONFIGS: Final = {"cleanup.policy": "compact"}
_GATHER_S: Final = 0.5


class OffsetSyncWriter:
    """Of one flow. MM2 keeps its syncs in the source, unless it is told otherwise."""

    def __init__(self, flow: FlowConfig, source: Side, target: Side) -> None:
        self._flow = flow
        at_source = flow.offset_syncs_location == "source"
        self._side = source if at_source else target
        self._topic = flow.policy.offset_syncs_topic(flow.target if at_source else flow.source)
        self._partitions: dict[TopicPartition, OffsetSyncs] = {}
        self._due: dict[TopicPartition, OffsetSync] = {}  # the newest counts
        self._task: asyncio.Task[None] | None = None

    def offer(self, source: TopicPartition, runs: Sequence[Run]) -> None:
        """These runs are committed."""
        syncs = self._partitions.get(source)
        if syncs is None:
            syncs = self._partitions[source] = OffsetSyncs(source, self._flow.offset_lag_max)
        for run in runs:
            due = syncs.after(run)
            if due is not None:
                self._due[source] = due
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._write(), name=f"ottla-mirror-syncs-{self._flow.name}")

    async def close(self) -> None:
        """What is not written yet is dropped: later ones say the same."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _write(self) -> None:
        while self._due:
            await asyncio.sleep(_GATHER_S)
            due, self._due = self._due, {}
            try:
                factor, timeout_ms = self._flow.offset_syncs_replication_factor, self._flow.admin_timeout_ms
                await ensure_topic(self._side, self._topic, factor, timeout_ms, _CONFIGS)
                await write_records(self._side, self._topic, [one.encode() for one in due.values()])
            except ClientError as error:
                level = logging.DEBUG if self._side.outages.covers(error) else logging.WARNING
                logger.log(level, "%s: offset syncs are not written: %s", self._flow.name, error)
