"""What callers of a partition get back."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ottla.core.types import Buffer


class Isolation(IntEnum):
    """How far a reader may look."""

    READ_UNCOMMITTED = 0  # to the high watermark
    READ_COMMITTED = 1  # to the last stable offset
    LOG_END = 2  # to the log end offset: replicas, a coordinator that loads its state


class Origin(IntEnum):
    """Who made a batch; decides which checks it must pass."""

    CLIENT = 0
    COORDINATOR = 1
    REPLICATION = 2


class State(IntEnum):
    """Of a partition on this node."""

    ONLINE = 0
    OFFLINE = 1


@dataclass(slots=True)
class Appended:
    """Where a batch went. A duplicate has the offsets of its original."""

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    log_start_offset: int


@dataclass(slots=True)
class ReadResult:
    """Whole batches, one after the other, and the offsets at the moment of reading."""

    buffers: list[Buffer]
    size: int
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    next_offset: int = -1
    """After the last batch, when it was read from a file; -1: look into the last buffer."""
    aborted: list[tuple[int, int]] = field(default_factory=list)
    """(producer id, first offset) of transactions aborted within; only for READ_COMMITTED."""


@dataclass(frozen=True, slots=True)
class TimestampOffset:
    """Answer to a look-up by timestamp; `offset` -1 when there is none."""

    timestamp: int
    offset: int
    leader_epoch: int


NO_OFFSET: Final = TimestampOffset(-1, -1, -1)
