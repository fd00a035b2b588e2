"""Gives partitions back to their preferred leaders from time to time (`auto.leader.rebalance.enable`).

After a node was away the others lead what it led; placement has spread the preferred leaders evenly, so the load is
even again when they lead.
"""

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from ottla.controller.elect_leaders import MAX_BALANCED
from ottla.core.errors import ApiError
from ottla.core.ports import Timer

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

logger = structlog.get_logger(__name__)

PAUSE_MS: Final = 1_000.0  # between two batches of leaders: clients of each look for the new one


class LeaderBalance:
    """Runs on every node, and does something on the active controller's."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on."""
        self._later()

    def stop(self) -> None:
        """No more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _later(self) -> None:
        broker = self._broker
        interval_ms = broker.configs.integer("leader.imbalance.check.interval.seconds") * 1000
        self._timer = broker.clock.call_later(interval_ms, self._look)

    def _look(self) -> None:
        broker = self._broker
        if broker.controller.is_active and broker.configs.boolean("auto.leader.rebalance.enable"):
            self._task = asyncio.get_running_loop().create_task(self._balance())
        else:
            self._later()

    async def _balance(self) -> None:
        moved = count = 0
        try:
            while (count := await self._broker.controller.local.balance_leaders()) == MAX_BALANCED:
                moved += count
                await asyncio.sleep(PAUSE_MS / 1000)
        except ApiError as error:  # another controller's affair, or the next time's
            logger.info("leaders were not balanced", error=str(error))
        moved += count
        if moved:
            logger.info("partitions went back to their preferred leaders", partitions=moved)
        self._later()
