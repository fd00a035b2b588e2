"""The role of a partition that another node leads: does what `FollowerState` says with the log and the connection."""

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, CorruptBatch, DecodeError
from ottla.core.ports import Clock, Timer
from ottla.core.types import NodeId
from ottla.partitions.replication.anew import start_anew
from ottla.partitions.replication.divergence import BeginAnew, Diverged, LogView
from ottla.partitions.replication.follower import Action, FollowerState, StartAnew, Step, Subscribe, Truncate
from ottla.partitions.replication.types import NO_LEADER
from ottla.records.header import HEADER_BYTES, LOG_OVERHEAD_BYTES

if TYPE_CHECKING:
    from ottla.partitions.partition import Partition

FIRST_PAUSE_MS: Final = 20.0
LONGEST_PAUSE_MS: Final = 1000.0
NO_SLOT: Final = -1

_BATCH_LENGTH: Final = Struct(">i")
_BATCH_LENGTH_AT: Final = 8

# One side has seen newer metadata than the other.
_IN_PASSING: Final = frozenset(
    {ErrorCode.UNKNOWN_LEADER_EPOCH, ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER}
)

logger: Final = structlog.get_logger(__name__)


class Link(Protocol):
    """The connection to the leader's node, as one partition uses it."""

    @property
    def online(self) -> bool: ...
    def subscribe(self, following: "Following") -> int:
        """Tell the leader where the log ends; the number under which it will answer."""

    def unsubscribe(self, slot: int) -> None: ...
    def durable_soon(self, following: "Following") -> None:
        """Tell the leader what is durable, at the end of this turn of the loop."""


class Following:
    """One partition as a follower, through changes of its leader."""

    def __init__(self, partition: "Partition", clock: Clock) -> None:
        self.partition = partition
        self.state = FollowerState()
        self.slot = NO_SLOT
        self.synced_end_offset = 0
        self._told_end_offset = 0  # of it, the leader was told this, or is about to be
        self._clock = clock
        self.link: Link | None = None
        self._pause: Timer | None = None
        self._pause_ms = FIRST_PAUSE_MS
        self._when_idle: Callable[[], None] | None = None

    # -- what the partition asks and tells

    has_enough_replicas = True  # asked of leaders only
    latest_is_known = False
    others_have_all = True  # its leader at least

    def appended(self) -> None:
        """Clients append to leaders only."""

    def begun_anew(self, offset: int) -> None:
        """Asked for by leaders only; here `start_anew` follows from what the leader says."""

    def synced(self, end_offset: int) -> None:
        self.synced_end_offset = end_offset
        if end_offset != self._told_end_offset:  # a log tells of each commit twice: when it is durable, and written
            self._tell()

    def failed(self) -> None:
        self._leave()
        self.state.failed()

    # -- what the metadata say

    @property
    def busy(self) -> bool:
        """The log is being cut: this replica can be nothing else before that is done."""
        return self.state.step is Step.CUTTING

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call once when it is not busy any more; a later call replaces an earlier one."""
        self._when_idle = callback

    def follow(self, leader: NodeId, leader_epoch: int, link: Link | None) -> None:
        """That node leads in that epoch. None when this node has no way to it, or nobody leads."""
        if self.state.step is Step.OFFLINE:
            return
        self._leave()
        self.link = link if leader != NO_LEADER else None
        self._pause_ms = FIRST_PAUSE_MS
        online = self.link is not None and self.link.online
        self._do(self.state.lead(leader if self.link is not None else NO_LEADER, leader_epoch, online=online))

    def end(self) -> None:
        """Follow no more. A cut that is under way ends later, and then nobody is to be followed either."""
        self._leave()
        self.link = self._when_idle = None
        if self.state.step is not Step.OFFLINE:
            self.state.lead(NO_LEADER, self.state.leader_epoch, online=False)

    # -- what the connection tells

    def connected(self) -> None:
        if self.state.step is not Step.OFFLINE:
            self._do(self.state.connected())

    def disconnected(self) -> None:
        self.slot = NO_SLOT
        if self.state.step is not Step.OFFLINE:
            self.state.disconnected()

    def accepted(self, high_watermark: int, log_start_offset: int) -> None:
        self.state.accepted()
        self._pause_ms = FIRST_PAUSE_MS
        if self.synced_end_offset != self._told_end_offset:  # while the subscription was under way
            self._tell()
        self.offsets(high_watermark, log_start_offset)

    def diverged(self, epoch: int, end_offset: int) -> None:
        self.slot = NO_SLOT
        self._do(self.state.diverged(Diverged(epoch, end_offset), self.view(), self.partition.high_watermark))

    def anew(self, offset: int) -> None:
        self.slot = NO_SLOT
        self._do(self.state.begin_anew(BeginAnew(offset), self.view()))

    def refused(self, code: ErrorCode) -> None:
        self.slot = NO_SLOT
        if code not in _IN_PASSING:
            logger.info("the leader does not serve a replica now", partition=self.partition.name, error=code.name)
        self._do(self.state.refused())

    def data(self, batches: memoryview, high_watermark: int, log_start_offset: int) -> None:
        """Whole batches; their memory is the partition's from here on. DecodeError when they are none."""
        self.state.data()
        partition = self.partition
        position, end = 0, len(batches)
        try:
            while position < end:
                size = _batch_size(batches, position, end)
                partition.append_replicated(batches[position : position + size])
                position += size
        except ApiError as error:
            if self.state.step is not Step.OFFLINE:
                logger.warning("a batch of the leader is refused", partition=partition.name, error=str(error))
                self._leave()
                self._do(self.state.refused())
            return
        except CorruptBatch as error:
            raise DecodeError(f"{partition.name}: {error}") from error
        self.offsets(high_watermark, log_start_offset)

    def offsets(self, high_watermark: int, log_start_offset: int) -> None:
        """The leader's; here no further than the own log."""
        partition = self.partition
        known = min(high_watermark, partition.log.log_end_offset)
        if known > partition.high_watermark:
            partition.advance(known)
        if log_start_offset > partition.log_start_offset:
            partition.move_log_start(min(log_start_offset, partition.high_watermark))

    def view(self) -> LogView:
        partition = self.partition
        return LogView(partition.epochs, partition.log_start_offset, partition.log.log_end_offset)

    # -- inside

    def _tell(self) -> None:
        if self.state.step is Step.STREAMING and self.link is not None:
            self._told_end_offset = self.synced_end_offset
            self.link.durable_soon(self)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Subscribe):
                assert self.link is not None
                self.synced_end_offset = self._told_end_offset = self.partition.log.synced_end_offset
                self.slot = self.link.subscribe(self)
            elif isinstance(action, Truncate):
                self._truncate(action)
            elif isinstance(action, StartAnew):
                logger.warning(
                    "the leader has no record that follows: this replica begins anew",
                    partition=self.partition.name,
                    log_end_offset=self.partition.log_end_offset,
                    at=action.offset,
                )
                start_anew(self.partition, action.offset, self._cut)
            else:
                if self._pause is not None:  # a connection came and was refused before the last one was over
                    self._pause.cancel()
                self._pause = self._clock.call_later(self._pause_ms, self._retry)
                self._pause_ms = min(self._pause_ms * 2, LONGEST_PAUSE_MS)

    def _truncate(self, action: Truncate) -> None:
        partition = self.partition
        tell = logger.error if action.lossy else logger.info
        tell(
            "RECORDS THAT WERE ACKNOWLEDGED ARE CUT OFF: the leader was elected without them"
            if action.lossy
            else "cut off what the leader does not have",
            partition=partition.name,
            at=action.offset,
            log_end_offset=partition.log_end_offset,
            high_watermark=partition.high_watermark,
            leader_epoch=self.state.leader_epoch,
        )
        partition.truncate(action.offset, self._cut)

    def _cut(self, error: Exception | None) -> None:
        if self.state.step is not Step.CUTTING:
            return  # offline meanwhile
        if error is not None:
            self.state.failed()
            return
        waiting, self._when_idle = self._when_idle, None
        if waiting is not None:
            self.state.step = Step.WAITING
            waiting()  # perhaps it leads now, and then this role is over
        if self.partition.role is self:
            self._do(self.state.retry() if waiting is not None else self.state.cut())

    def _retry(self) -> None:
        self._pause = None
        if self.state.step is not Step.OFFLINE:
            self._do(self.state.retry())

    def _leave(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self.slot != NO_SLOT and self.link is not None:
            self.link.unsubscribe(self.slot)
        self.slot = NO_SLOT


def _batch_size(batches: memoryview, position: int, end: int) -> int:
    left = end - position
    if left < HEADER_BYTES:
        raise CorruptBatch(f"{left} bytes are too few for a batch")
    size: int = _BATCH_LENGTH.unpack_from(batches, position + _BATCH_LENGTH_AT)[0] + LOG_OVERHEAD_BYTES
    if not HEADER_BYTES <= size <= left:
        raise CorruptBatch(f"a batch says {size} bytes, {left} are there")
    return size
