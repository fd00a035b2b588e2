"""Says in the log when a cluster is away and when it is back: a line each, however many partitions wait for it."""

import asyncio
import logging
import random
from typing import Final

from ottla.client.errors import ClientError
from ottla.mirror.core.outage import Outage, Waiting, is_away

logger = logging.getLogger("ottla.mirror")

_SAY_AFTER_S: Final = 3.0  # a leader that moves takes less
_SAY_AGAIN_S: Final = 600.0
_FLOCK_S: Final = 1.0  # over which those who wait come back


class Outages:
    """Of one cluster."""

    def __init__(self, alias: str, *, say_after_s: float = _SAY_AFTER_S, say_again_s: float = _SAY_AGAIN_S) -> None:
        self._outage = Outage(alias)
        self._loop = asyncio.get_running_loop()
        self._say_after_s, self._say_again_s = say_after_s, say_again_s
        self._timer: asyncio.TimerHandle | None = None
        self._answered = asyncio.Event()  # since it was said that it is away
        self._answered.set()

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def failed(self, who: Waiting, error: Exception) -> bool:
        """Whether it is said here; what is not about the cluster, whoever met it says."""
        if not isinstance(error, ClientError) or not is_away(error):
            self.well(who)  # somebody answered
            return False
        if self._outage.failed(who, error, self._loop.time()):
            self.close()
            self._timer = self._loop.call_later(self._say_after_s, self._say)
        return True

    def covers(self, error: Exception) -> bool:
        """Whether all of this is said already, or about to be."""
        return self._outage.covers(error)

    def well(self, who: Waiting) -> None:
        """It got an answer."""
        if not self._outage.waits(who):
            return
        self._answered.set()
        said = self._outage.well(who, self._loop.time())
        if said is not None:
            logger.warning("%s", said)

    def forget(self, who: Waiting) -> None:
        """It waits no more, whatever the cluster does."""
        self._outage.forget(who)

    async def pause(self, delay_s: float) -> None:
        """Return after this time; sooner when one of those who wait gets an answer, the first since it was said."""
        if self._answered.is_set():
            await asyncio.sleep(delay_s)
            return
        try:
            async with asyncio.timeout(delay_s):
                await self._answered.wait()
            await asyncio.sleep(min(delay_s, random.uniform(0, _FLOCK_S)))
        except TimeoutError:
            pass

    def _say(self) -> None:
        said = self._outage.say(self._loop.time())
        if said is not None:
            self._answered.clear()
            logger.warning("%s", said)
            self._timer = self._loop.call_later(self._say_again_s, self._say)
