"""Calls from clients to nodes: over links of their own that are never cut, so that a cut-off leader is asked, too."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import CORO_CREATED, getcoroutinestate
from random import Random
from typing import Any, TypeVar

from ottla.raft.driver import RaftNode
from ottla.testing.sim.loop import SimLoop
from tests.sim.raft.host import Host, Process
from tests.sim.raft.setting import Setting

T = TypeVar("T")


class Unreached(Exception):
    """Nothing listens there: the request was not received."""


class Unanswered(Exception):
    """No answer came: whether the request took effect is unknown."""


class Calls:
    """Made on the one loop of all clients."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.loop: SimLoop = setting.world.new_loop("clients")
        self._random: Random = setting.random("calls")
        self._count = 0

    async def call(
        self,
        host: Host,
        ask: Callable[[RaftNode], Awaitable[T]],
        *,
        within_s: float,
        answered: Callable[[Process, T], None] | None = None,
    ) -> tuple[Process, T]:
        """What the node answers, and which process it was; `answered` runs on the node when it does.

        Raises what `ask` does, Unreached, or Unanswered.
        """
        future: asyncio.Future[tuple[Process, T]] = self.loop.create_future()
        self._count += 1
        number = self._count
        world = self.setting.world

        def arrive() -> None:
            process = host.process
            if process is None or process.raft is None:
                self._later(future, Unreached())
                return
            process.calls[number] = lambda: self._later(future, Unanswered())
            process.loop.call_soon(begin, process, process.raft)

        def begin(process: Process, raft: RaftNode) -> None:
            running = run(process, raft)
            process.loop.create_task(running)

            def ended() -> None:
                self._later(future, Unanswered())
                if getcoroutinestate(running) == CORO_CREATED:  # it was to begin in the next turn of the loop
                    running.close()

            process.calls[number] = ended

        async def run(process: Process, raft: RaftNode) -> None:
            try:
                result = await ask(raft)
            except Exception as error:  # the caller's
                outcome: Any = error
            else:
                if answered is not None:
                    answered(process, result)
                outcome = (process, result)
            if process.calls.pop(number, None) is not None:
                self._later(future, outcome)

        world.call_later(self._delay_s(), arrive)
        expiry = self.loop.call_later(within_s, self._settle, future, Unanswered())
        try:
            return await future
        finally:
            expiry.cancel()

    def _later(self, future: "asyncio.Future[Any]", outcome: Any) -> None:
        self.setting.world.call_later(self._delay_s(), self.loop.call_soon, self._settle, future, outcome)

    def _settle(self, future: "asyncio.Future[Any]", outcome: Any) -> None:
        if future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _delay_s(self) -> float:
        return 0.0001 + self._random.random() * 0.001
