"""Event loops of several nodes in one deterministic world, on virtual time.

Each node has an `asyncio` loop of its own, so production code with tasks and futures runs unchanged. One callback runs
at a time: those of one node first in, first out; between nodes the seed decides whose turn it is. When nobody has
anything to do, time jumps to the next timer. Nothing waits for real, and the same seed replays the same history.
What belongs to no node (a message on its way, the plan of faults) is planned with `World.call_at` and `call_later`.
"""

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from ottla.core.ports import Random

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class World:
    """Time, and whose turn it is.

    `before_each` is called before every callback of a node, `after_each` after it, with the loop that it ran on: for
    invariants.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now_s = 0.0
        self.events = 0
        self.before_each: Callable[[], None] | None = None
        self.after_each: Callable[[SimLoop], None] | None = None
        self._ready: list[SimLoop] = []  # loops that have something to run
        self._timers: list[tuple[float, int, asyncio.TimerHandle | WorldTimer, SimLoop | None]] = []
        self._count = 0

    def new_loop(self, name: str) -> "SimLoop":
        return SimLoop(self, name)  # type: ignore[abstract]  # what is missing raises NotImplementedError

    def step(self, until_s: float) -> bool:
        """Run one callback that is due at or before `until_s`; whether there was one."""
        ready, timers = self._ready, self._timers
        while True:
            if ready:
                loop = ready[int(self.random.random() * len(ready)) if len(ready) > 1 else 0]
                if self.before_each is not None:
                    self.before_each()
                self.events += 1
                loop.run_one()
                if self.after_each is not None:
                    self.after_each(loop)
                return True
            if not timers or timers[0][0] > until_s:
                return False
            at, _, handle, owner = heappop(timers)
            if handle.cancelled():
                continue
            if at > self.now_s:
                self.now_s = at
            if owner is None:
                assert isinstance(handle, WorldTimer)
                self.events += 1
                handle.callback(*handle.arguments)
                return True
            if owner.alive:
                assert isinstance(handle, asyncio.TimerHandle)
                owner.add_ready(handle)

    def run_for(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        end = self.now_s + seconds
        while self.step(end):
            pass
        self.now_s = end

    def run_until(self, condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
        """Run until the condition holds; AssertionError when it does not within that virtual time."""
        end = self.now_s + within_s
        while not condition():
            if not self.step(end):
                raise AssertionError(f"the condition does not hold after {within_s} s of virtual time")

    def call_at(self, at_s: float, callback: Callable[..., object], *arguments: Any) -> "WorldTimer":
        """Plan something that belongs to no node."""
        timer = WorldTimer(callback, arguments)
        self._count += 1
        heappush(self._timers, (at_s, self._count, timer, None))
        return timer

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> "WorldTimer":
        """Like `call_at`, from now."""
        return self.call_at(self.now_s + delay_s, callback, *arguments)

    def add_timer(self, at_s: float, handle: asyncio.TimerHandle, loop: "SimLoop") -> None:
        self._count += 1
        heappush(self._timers, (at_s, self._count, handle, loop))

    def mark_ready(self, loop: "SimLoop") -> None:
        self._ready.append(loop)

    def unmark_ready(self, loop: "SimLoop") -> None:
        self._ready.remove(loop)


class WorldTimer:
    """A callback that belongs to no node."""

    __slots__ = ("_cancelled", "arguments", "callback")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.callback, self.arguments = callback, arguments
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled


class SimLoop(asyncio.AbstractEventLoop):
    """The loop of one node. What a real loop does with sockets and threads is not here: nodes use the ports."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.alive = True
        self.paused = False
        self.failures: list[dict[str, Any]] = []
        self._queue: deque[asyncio.Handle] = deque()

    # -- the world's side

    def add_ready(self, handle: asyncio.Handle) -> None:
        if not self._queue and not self.paused:
            self.world.mark_ready(self)
        self._queue.append(handle)

    def run_one(self) -> None:
        handle = self._queue.popleft()
        if not self._queue:
            self.world.unmark_ready(self)
        if handle.cancelled():
            return
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    def crash(self) -> None:
        """Nothing that was planned on this loop will happen."""
        self.alive = False
        if self._queue:
            self._queue.clear()
            if not self.paused:
                self.world.unmark_ready(self)

    def pause(self) -> None:
        """The process stands still (SIGSTOP, a machine that swaps): what is due piles up until `resume`."""
        if not self.paused:
            self.paused = True
            if self._queue:
                self.world.unmark_ready(self)

    def resume(self) -> None:
        """All that was due meanwhile is done now."""
        if self.paused:
            self.paused = False
            if self._queue:
                self.world.mark_ready(self)

    def complete(self, coroutine: Coroutine[Any, Any, T], *, within_s: float = 60.0) -> T:
        """Run the world until the coroutine, as a task of this node, is done."""
        task: asyncio.Task[T] = self.create_task(coroutine)
        self.world.run_until(task.done, within_s=within_s)
        return task.result()

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.world.now_s

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self.alive:
            self.add_ready(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.world.now_s + max(delay, 0.0), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if self.alive:
            self.world.add_timer(when, handle, self)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        raise RuntimeError("there are no threads in the simulator: use the port Disk")

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self, **options)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.alive

    def is_closed(self) -> bool:
        return not self.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Kept: an exception that nobody took is a failure of the run. Not what a killed process leaves behind: its
        tasks are found pending whenever the garbage collector comes.
        """
        if self.alive:
            self.failures.append(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is skipped when its time comes."""
