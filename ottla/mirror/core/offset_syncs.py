"""When MM2's offset syncs are written. Nothing here reads them: they are for tools that know MirrorMaker 2's topics."""

from ottla.client.types import TopicPartition
from ottla.mirror.core.mm2_records import OffsetSync
from ottla.mirror.core.runs import Run


class OffsetSyncs:
    """Of one partition: one sync for the first copy, one after each gap, and one every `offset_lag_max` records."""

    def __init__(self, partition: TopicPartition, offset_lag_max: int) -> None:
        self._partition = partition
        self._lag_max = offset_lag_max
        self._last: OffsetSync | None = None

    def after(self, run: Run) -> OffsetSync | None:
        """The sync that is due when this run is committed: of its last record."""
        upstream, downstream = run.source_end - 1, run.target_end - 1
        last = self._last
        if last is not None:
            in_step = downstream - last.downstream_offset == upstream - last.upstream_offset
            if in_step and upstream - last.upstream_offset < self._lag_max:
                return None
        self._last = OffsetSync(self._partition, upstream, downstream)
        return self._last
