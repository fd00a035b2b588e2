"""What a mirror asks of the leader of a mirror topic's partition: continue its log, tell how it stands, end it."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.partitions.mirroring import append_mirrored, begin_at, check_mirror, end_transactions, follow_log_start

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.partitions.partition import Partition


@dataclass(frozen=True, slots=True)
class MirrorPartition:
    """A partition of a mirror topic. `source`: what it mirrors, as in `ottla.mirror.source`."""

    topic_id: Uuid
    index: int
    source: str


@dataclass(frozen=True, slots=True)
class MirrorLog:
    """How a partition's log stands."""

    log_start_offset: int
    high_watermark: int
    log_end_offset: int
    aborted_transactions: int = 0


async def append(
    broker: "Broker",
    mirror: MirrorPartition,
    *,
    expected_end_offset: int | None,
    begin_offset: int | None,
    log_start_offset: int,
    batches: memoryview,
    timeout_ms: int,
) -> MirrorLog:
    """Continue the log with `batches`, which may be none, and follow the log start of the source; see `mirroring`.

    `begin_offset`: the log is begun anew there first. Without `expected_end_offset` nothing is changed. ApiError.
    """
    partition = broker.replicas.leader(mirror.topic_id, mirror.index)
    check_mirror(partition, mirror.source)
    if expected_end_offset is None:
        return _log(partition)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_ms / 1000
    if begin_offset is not None:
        begun = _Wait()
        begin_at(partition, begin_offset, expected_end_offset=expected_end_offset, done=begun.done)
        await begun.until(deadline)
        check_mirror(partition, mirror.source)  # much may have happened meanwhile
        expected_end_offset = begin_offset
    committed = _Wait()
    append_mirrored(partition, batches, expected_end_offset=expected_end_offset, done=committed.done)
    end = partition.log_end_offset
    await committed.until(deadline)
    if partition.is_leader:
        follow_log_start(partition, log_start_offset)
    return MirrorLog(partition.log_start_offset, partition.high_watermark, end)


async def end_mirror(
    broker: "Broker", mirror: MirrorPartition, *, abort_transactions: bool, timeout_ms: int
) -> MirrorLog:
    """A step of a promotion: wait until all is committed; with `abort_transactions` end what is open, before."""
    partition = broker.replicas.leader(mirror.topic_id, mirror.index)
    check_mirror(partition, mirror.source, promoting=True)
    committed, aborted = _Wait(), 0
    if abort_transactions:
        aborted = end_transactions(partition, committed.done)
    else:
        partition.when_committed(partition.log_end_offset, committed.done)
    end = partition.log_end_offset
    await committed.until(asyncio.get_running_loop().time() + timeout_ms / 1000)
    return MirrorLog(partition.log_start_offset, partition.high_watermark, end, aborted)


def _log(partition: "Partition") -> MirrorLog:
    return MirrorLog(partition.log_start_offset, partition.high_watermark, partition.log_end_offset)


class _Wait:
    """For a partition's callback."""

    def __init__(self) -> None:
        self._future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()

    def done(self, code: ErrorCode) -> None:
        if not self._future.done():
            self._future.set_result(code)

    async def until(self, deadline: float) -> None:
        """Raises ApiError: what the partition says, or REQUEST_TIMED_OUT; then nobody knows yet whether it happened."""
        try:
            async with asyncio.timeout_at(deadline):
                code = await self._future
        except TimeoutError:
            raise ApiError(ErrorCode.REQUEST_TIMED_OUT, "it is not committed within the time given") from None
        if code is not ErrorCode.NONE:
            raise ApiError(code)
