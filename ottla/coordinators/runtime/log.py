"""The part of a partition's leader replica that the runtime uses; `ottla.partitions` has the whole."""

from collections.abc import Callable
from typing import Protocol

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.partitions.results import Appended, Isolation, Origin, ReadResult
from ottla.partitions.verification import NO_GUARD, Resume, Verifications


class CoordinatorLog(Protocol):
    """One partition of an internal topic, led by this node."""

    @property
    def log_start_offset(self) -> int: ...
    @property
    def log_end_offset(self) -> int: ...
    @property
    def high_watermark(self) -> int: ...

    @property
    def verifications(self) -> Verifications:
        """What coordinators of transactions are asked about this log."""

    def admit(self, producer_id: int, epoch: int, sequence: int, *, adds: bool, resume: Resume) -> int:
        """Whether a batch of a transaction may be appended now, or after a question; see `Verifications.admit`."""

    def append(
        self,
        batch: memoryview,
        *,
        acks: int,
        done: Callable[[ErrorCode], None] | None,
        origin: Origin,
        guard: int = NO_GUARD,
        transaction_version: int = 0,
    ) -> Appended:
        """Queue the batch; raises ApiError when it may not be appended. `done` when it is committed, or never will.

        `guard`: under which a batch begins a transaction. `transaction_version`: of the one that a marker ends.
        """

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
