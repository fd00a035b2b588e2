"""The ports `Disk` and `Worker` on a simulated clock: jobs start and end when chance says, in any order.

The clock is a `SimClock`, or a `NodeClock` where several nodes have loops of their own. How slow the disk is stands in
`SimDisk`; in what ways operations fail is the matter of `SimFiles.before` (`disk_faults`).
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ottla.core.ports import Clock, File, Random
from ottla.testing.sim.files import PowerCut, SimFile, SimFiles

T = TypeVar("T")


class ForgetfulClock(Clock, Protocol):
    """A clock whose plans a crash ends."""

    def forget_all(self) -> None:
        """Nothing that was planned will happen."""


class SimDisk:
    """Files that forget, and jobs that take up to `slowest_ms`; some of them, `stalls`, up to `stall_ms`.

    `on_power_cut` is called when a `PowerCut` that `SimFiles.before` raised ended a job in its middle.
    """

    def __init__(
        self,
        clock: ForgetfulClock,
        random: Random,
        *,
        files: SimFiles | None = None,
        slowest_ms: float = 5.0,
        cached: float = 0.7,
    ) -> None:
        self.files = files or SimFiles()
        self.slowest_ms, self.cached = slowest_ms, cached
        self.stalls, self.stall_ms = 0.0, 1000.0
        self.stalled = 0  # jobs that did
        self.on_power_cut: Callable[[], None] | None = None
        self._clock, self._random = clock, random
        self._notices: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        self._clock.call_later(self._delay_ms(), self._run, job, done)

    def _delay_ms(self) -> float:
        if self.stalls and self._random.random() < self.stalls:
            self.stalled += 1
            return self._random.random() * self.stall_ms
        return self._random.random() * self.slowest_ms

    def _run(self, job: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        result, failure = None, None
        try:
            result = job()
        except Exception as error:
            failure = error
        except PowerCut:
            if self.on_power_cut is None:
                raise
            self.on_power_cut()
            return
        notices, self._notices = self._notices, []
        delay_ms = self._delay_ms()
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
