"""The part of a partition's leader replica that the runtime uses; `ottla.partitions` has the whole."""

from collections.abc import Callable
from typing import Protocol

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.partitions.results import Appended, Isolation, Origin, ReadResult


class CoordinatorLog(Protocol):
    """One partition of an internal topic, led by this node."""

    @property
    def log_start_offset(self) -> int: ...
    @property
    def log_end_offset(self) -> int: ...
    @property
    def high_watermark(self) -> int: ...

    def append(
        self, batch: memoryview, *, acks: int, done: Callable[[ErrorCode], None] | None, origin: Origin
    ) -> Appended:
        """Queue the batch; raises ApiError when it may not be appended. `done` when it is committed, or never will."""

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        isolation: Isolation,
        minimum_one_batch: bool,
        done: Callable[[ReadResult | ApiError], None],
    ) -> ReadResult | None:
        """Whole batches from `offset` on: at once, or later through `done`."""

    def add_watcher(self, watcher: Callable[[], None], /) -> None:
        """Call `watcher` whenever an offset of the partition moves."""

    def remove_watcher(self, watcher: Callable[[], None], /) -> None: ...
