"""Calls from clients to nodes: over links of their own that are never cut, so that a cut-off leader is asked, too."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from ottla.broker.context import RequestContext
from ottla.protocol.apis import VERSIONS, ApiKey
from ottla.testing.sim.loop import SimLoop
from tests.sim.cluster.host import LISTENER, Host, Process
from tests.sim.cluster.setting import Setting

Reply = Callable[[Any], None]


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
        self.connections = 0
        self._count = 0

    async def call(
        self, host: Host, begin: Callable[[Process, Reply], None], *, within_s: float, late_s: float = 0.0
    ) -> Any:
        """What the node replies; an exception that it replies is raised, and Unreached, Unanswered.

        `begin` runs on the node's loop; `reply` is to be called there, once. A request that is `late_s` on its way may
        arrive when its client has long given it up.
        """
        future: asyncio.Future[Any] = self.loop.create_future()
        self._count += 1
        number = self._count

        def arrive() -> None:
            process = host.serving
            if process is None:
                self._later(future, Unreached())
                return
            process.calls[number] = lambda: self._later(future, Unanswered())

            def reply(outcome: Any) -> None:
                if process.calls.pop(number, None) is not None:
                    self._later(future, outcome)

            process.loop.call_soon(begin, process, reply)

        self.setting.world.call_later(self._delay_s() + late_s, arrive)
        expiry = self.loop.call_later(within_s, self._settle, future, Unanswered())
        try:
            return await future
        finally:
            expiry.cancel()

    def close(self, host: Host, connection: int) -> None:
        """The node is told that this connection ended; what is late arrives all the same, as if it had been read."""

        def arrive() -> None:
            process = host.serving
            if process is not None:
                for tell in process.broker.when_connection_closes:
                    process.loop.call_soon(tell, connection)

        self.setting.world.call_later(self._delay_s(), arrive)

    async def ask(
        self,
        host: Host,
        api_key: ApiKey,
        request: Any,
        *,
        within_s: float = 3.0,
        answered: Callable[[Process, Any], None] | None = None,
        context: RequestContext | None = None,
        late_s: float = 0.0,
    ) -> Any:
        """The response of `broker.handle`; `answered` runs on the node when it is there."""
        asked = context or RequestContext(listener=LISTENER, api_version=VERSIONS[api_key][1])

        def begin(process: Process, reply: Reply) -> None:
            async def run() -> None:
                try:
                    outcome = await process.broker.handle(api_key, request, asked)
                except Exception as error:  # the caller's
                    outcome = error
                else:
                    if answered is not None:
                        answered(process, outcome)
                reply(outcome)

            process.loop.create_task(run())

        return await self.call(host, begin, within_s=within_s, late_s=late_s)

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
        return 0.0002 + self._random.random() * 0.001
