"""The thread and the loop on which all blocking clients of a process run; started with the first of them."""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ottla.client.errors import ClientForked

T = TypeVar("T")


class LoopThread:
    """A daemon thread: it ends with the process, and so never keeps a script from ending."""

    _shared: "LoopThread | None" = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ottla-client", daemon=True)
        self._thread.start()

    @classmethod
    def shared(cls) -> "LoopThread":
        """The process's own; a fork gets another."""
        with cls._lock:
            if cls._shared is None or cls._shared._pid != os.getpid():
                cls._shared = cls()
            return cls._shared

    @classmethod
    def forget(cls) -> None:
        """In a fork: the thread did not come along, and the lock may have been held."""
        cls._lock = threading.Lock()
        cls._shared = None

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Wait for a coroutine on the loop. Raises TimeoutError after `timeout` seconds, having cancelled it."""
        try:
            self.check_usable()
        except BaseException:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except (KeyboardInterrupt, concurrent.futures.TimeoutError):
            future.cancel()
            raise

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run a callback on the loop, before whatever is run from now on."""
        self._loop.call_soon_threadsafe(callback)

    def check_usable(self) -> None:
        """Raises ClientForked, and RuntimeError on the loop's own thread."""
        if self._pid != os.getpid():
            raise ClientForked(self._pid, os.getpid())
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call in a callback of the client would wait for itself: use ottla.client")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LoopThread.forget)
