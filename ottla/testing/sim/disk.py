"""The ports `Disk` and `Worker` on a virtual clock: jobs start and end when chance says, in any order."""

from collections.abc import Callable
from typing import Any, TypeVar

from ottla.core.ports import File, Random
from ottla.testing.sim.clock import SimClock
from ottla.testing.sim.files import SimFile, SimFiles

T = TypeVar("T")


class SimDisk:
    """Files that forget, and jobs that take up to `slowest_ms`."""

    def __init__(
        self,
        clock: SimClock,
        random: Random,
        *,
        files: SimFiles | None = None,
        slowest_ms: float = 5.0,
        cached: float = 0.7,
    ) -> None:
        self.files = files or SimFiles()
        self.slowest_ms, self.cached = slowest_ms, cached
        self._clock, self._random = clock, random
        self._notices: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        self._clock.call_later(self._random.random() * self.slowest_ms, self._run, job, done)

    def _run(self, job: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        result, failure = None, None
        try:
            result = job()
        except Exception as error:
            failure = error
        notices, self._notices = self._notices, []
        delay_ms = self._random.random() * self.slowest_ms
        for notice in notices:
            self._clock.call_later(delay_ms / 2, notice)
        self._clock.call_later(delay_ms, done, result, failure)

    def notify(self, callback: Callable[[], None]) -> None:
        self._notices.append(callback)

    def read_cached(self, file: File, length: int, position: int) -> bytes | None:
        assert isinstance(file, SimFile)
        if self._random.random() >= self.cached:
            return None
        data = file.inode.content[position : position + length]
        if self._random.random() < 0.1:
            data = data[: self._random.randrange(0, len(data) + 1)]  # the cached range ends early
        return bytes(data)

    def crash(self) -> None:
        """Power cut: jobs that did not run never will, and files lose what was not synced."""
        self._clock.forget_all()
        self._notices.clear()
        self.files.crash(self._random)


class SimWorker:
    """The port `Worker`: calls run one at a time, on the same files."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._waiting: list[tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any, Exception | None], None]]] = []
        self._busy = False

    def submit(
        self, function: Callable[..., T], arguments: tuple[Any, ...], done: Callable[[T | None, Exception | None], None]
    ) -> None:
        self._waiting.append((function, arguments, done))
        self._next()

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        function, arguments, done = self._waiting.pop(0)

        def finished(result: Any, error: Exception | None) -> None:
            self._busy = False
            self._next()
            done(result, error)

        self._disk.submit(lambda: function(self._disk.files, *arguments, lambda _: None), finished)
