"""Replies that wait until what their shard had written is committed."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ottla.coordinators.runtime.shard import Reply
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock, Timer


@dataclass(slots=True)
class _Waiting:
    end_offset: int
    deadline_ms: float
    replies: list[Reply]


class WaitingReplies:
    """A queue in the order of offsets, which is also the order of deadlines."""

    def __init__(self, clock: Clock, timeout_ms: float) -> None:
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._queue: deque[_Waiting] = deque()
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return sum(len(waiting.replies) for waiting in self._queue)

    def add(self, end_offset: int, replies: list[Reply]) -> None:
        """Let these replies leave when the high watermark has reached `end_offset`."""
        if not replies:
            return
        if self._queue and self._queue[-1].end_offset == end_offset:
            self._queue[-1].replies.extend(replies)
            return
        deadline_ms = self._clock.monotonic_ms() + self._timeout_ms
        self._queue.append(_Waiting(end_offset, deadline_ms, list(replies)))
        if self._timer is None:
            self._timer = self._clock.call_later(self._timeout_ms, self._expire)

    def advance(self, high_watermark: int) -> None:
        """Give the replies that need no more than this."""
        while self._queue and self._queue[0].end_offset <= high_watermark:
            for reply in self._queue.popleft().replies:
                reply.call(reply.response)

    def fail(self, error: ApiError, *, up_to: int | None = None) -> None:
        """Give `error` in place of the responses, to all or to those that wait for at most `up_to`."""
        self._fail_while(lambda waiting: up_to is None or waiting.end_offset <= up_to, error)
        if not self._queue and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now_ms = self._clock.monotonic_ms()
        error = ApiError(ErrorCode.REQUEST_TIMED_OUT, "the records were not committed in time")
        self._fail_while(lambda waiting: waiting.deadline_ms <= now_ms + 1, error)
        if self._queue:
            self._timer = self._clock.call_later(self._queue[0].deadline_ms - now_ms, self._expire)

    def _fail_while(self, condition: Callable[[_Waiting], bool], error: ApiError) -> None:
        while self._queue and condition(self._queue[0]):
            for reply in self._queue.popleft().replies:
                reply.call(error)
