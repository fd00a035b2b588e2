"""The streams of this door: they last as long as their clients like, so a node that stops has to end them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ottla.core.errors import ApiError, ErrorCode


class OpenStreams:
    """Knows the tasks that serve streams."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = asyncio.Event()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Around what a stream does until its client ends it. Raises ApiError where it stands when the node stops."""
        if self._ending.is_set():
            raise _stopping()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._ending.is_set():  # the client has gone
                raise
            task.uncancel()
            raise _stopping() from None
        finally:
            self._tasks.discard(task)

    def end(self) -> None:
        """End all streams, and each that is opened from now on."""
        self._ending.set()
        for task in self._tasks:
            task.cancel()


def _stopping() -> ApiError:
    return ApiError(ErrorCode.NETWORK_EXCEPTION, "the node stops")
