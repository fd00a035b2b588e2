"""The port `Disk`: a few threads that write and sync, and completions that reach the loop in batches.

A job is handed to one sleeping thread, the one that fell asleep last: a queue that all threads wait on wakes some of
them for nothing, and each of those wants the interpreter's lock. A thread that ends a job appends its completion to a
queue and wakes the loop only when nobody has done so yet: under load one wake-up carries many completions.
How long a thread waits for the lock of a busy loop is the interpreter's switch interval, which the node sets.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from typing import Any, Final, TypeVar

from ottla.adapters.files import OsFile, OsFiles
from ottla.adapters.read_buffers import ReadBuffers
from ottla.core.ports import File

T = TypeVar("T")

Job = tuple[Callable[[], Any], Callable[[Any, Exception | None], None]]

DEFAULT_THREADS: Final = 4

_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


class _Sleeper:
    """A thread's place to wait, and the job that it finds when it is woken; None: the end."""

    __slots__ = ("job", "wake")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.wake = Lock()
        self.wake.acquire()


class ThreadedDisk:
    """Files below one data directory, used by `threads` threads on behalf of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, root: str, *, threads: int = DEFAULT_THREADS) -> None:
        self.files = OsFiles(root)
        self._loop = loop
        self._idle: list[_Sleeper] = []
        self._backlog: deque[Job | None] = deque()  # while all threads are busy
        self._completions: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._awake = False
        self._read_buffers = ReadBuffers()
        self._threads = [Thread(target=self._run, name=f"disk-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        self._hand_over((job, done))

    def _hand_over(self, job: Job | None) -> None:
        try:
            sleeper = self._idle.pop()
        except IndexError:
            self._backlog.append(job)
            # Between the pop and the append a thread may have looked in vain and fallen asleep. Whoever comes second,
            # this look or the thread's own, finds the other's trace.
            if self._idle:
                with suppress(IndexError):
                    self._hand_over(self._backlog.popleft())
            return
        sleeper.job = job
        sleeper.wake.release()

    def notify(self, callback: Callable[[], None]) -> None:
        self._post(callback, ())

    def read_cached(self, file: File, length: int, position: int) -> memoryview | None:
        if not _NOWAIT:
            return None
        assert isinstance(file, OsFile)
        buffer = self._read_buffers.take(length)
        try:
            count = os.preadv(file.fd, [buffer], position, _NOWAIT)
        except OSError:  # EAGAIN: not cached; EOPNOTSUPP: this file system cannot say. Errors proper show in the job
            return None
        return buffer if count == length else buffer[:count]

    def close(self) -> None:
        """Let the threads finish what was submitted, then end them. Completions still run in a later turn."""
        for _ in self._threads:
            self._hand_over(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        sleeper = _Sleeper()
        while (item := self._next(sleeper)) is not None:
            job, done = item
            arguments: tuple[Any, Exception | None]
            try:
                arguments = (job(), None)
            except Exception as error:  # carried to the loop, where the submitter judges it
                arguments = (None, error)
            self._post(done, arguments)
            del item, job, done, arguments  # a thread at rest must not keep buffers alive

    def _next(self, sleeper: _Sleeper) -> Job | None:
        """What waits for a thread; else sleep until there is something."""
        while True:
            with suppress(IndexError):
                return self._backlog.popleft()
            self._idle.append(sleeper)
            if self._backlog:
                try:
                    self._idle.remove(sleeper)
                except ValueError:
                    pass  # a job was handed over already: the lock is free
                else:
                    continue
            sleeper.wake.acquire()
            job, sleeper.job = sleeper.job, None
            return job

    def _post(self, callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._completions.append((callback, arguments))
        if not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                if not self._loop.is_closed():
                    raise

    def _deliver(self) -> None:
        # The flag falls before the queue is emptied: a completion that comes now either is seen below or wakes again.
        self._awake = False
        completions = self._completions
        while completions:
            callback, arguments = completions.popleft()
            try:
                callback(*arguments)
            except Exception as error:
                self._loop.call_exception_handler({"message": "a disk completion failed", "exception": error})
