"""Leaders go back to where they are preferred: on the active controller, as often as the configuration says."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from ottla.broker.control.balance import LeaderBalance
from ottla.controller.elect_leaders import MAX_BALANCED
from ottla.core.errors import ApiError, ErrorCode
from ottla.testing.sim.clock import SimClock

INTERVAL_MS = 300_000


class Rig:
    def __init__(self, *answers: int | ApiError) -> None:
        self.clock = SimClock()
        self.answers, self.asked = list(answers), 0
        self.controller = SimpleNamespace(is_active=True, local=self)
        self.enabled = True
        self.configs = SimpleNamespace(integer=lambda _: INTERVAL_MS // 1000, boolean=lambda _: self.enabled)
        self.balance = LeaderBalance(cast(Any, self))
        self.balance.start()

    async def balance_leaders(self) -> int:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def run(self, ms: float) -> int:
        self.clock.run_for(ms)
        for _ in range(5):
            await asyncio.sleep(0)
        return self.asked


async def test_it_is_asked_again_after_each_interval_also_after_an_error() -> None:
    rig = Rig(3, ApiError(ErrorCode.NOT_CONTROLLER), 0)
    assert await rig.run(INTERVAL_MS - 1) == 0
    assert await rig.run(1) == 1
    assert await rig.run(INTERVAL_MS) == 2
    assert await rig.run(INTERVAL_MS) == 3


async def test_nothing_happens_elsewhere_or_when_it_is_off() -> None:
    rig = Rig(0)
    rig.controller.is_active = False
    assert await rig.run(INTERVAL_MS) == 0
    rig.controller.is_active, rig.enabled = True, False
    assert await rig.run(INTERVAL_MS) == 0
    rig.enabled = True
    assert await rig.run(INTERVAL_MS) == 1
    rig.balance.stop()
    assert await rig.run(INTERVAL_MS * 3) == 1


async def test_many_leaders_go_in_several_batches(monkeypatch: Any) -> None:
    monkeypatch.setattr("ottla.broker.control.balance.PAUSE_MS", 0)
    rig = Rig(MAX_BALANCED, MAX_BALANCED, 1)
    assert await rig.run(INTERVAL_MS) == 3
