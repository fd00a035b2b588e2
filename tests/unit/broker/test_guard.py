"""The active controller looks after the brokers, and at once when one is known to be gone; no other node does."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.control.guard import LOOK_MS, Guard
from ottla.controller.image import MetadataImage
from ottla.controller.liveness import GRACE_MS
from ottla.core.types import ZERO_UUID, NodeId
from ottla.testing.sim.clock import SimClock

ONE, TWO, DEAD = NodeId(1), NodeId(2), NodeId(3)
REDIAL_MS = 100.0  # where nothing listens
SESSION_MS = 2000.0


class FakeController:
    """Remembers who was fenced, and when."""

    def __init__(self, clock: SimClock) -> None:
        self.clock, self.is_active = clock, False
        self.image = cast(
            MetadataImage,
            SimpleNamespace(brokers={n: SimpleNamespace(id=n, epoch=n, fenced=False) for n in (ONE, TWO)}),
        )
        self.fenced: list[tuple[float, list[NodeId]]] = []
        self.when_leadership_changes: list[Callable[[], None]] = []

    def subscribe(self, subscriber: object) -> None: ...

    async def fence_brokers(self, brokers: list[NodeId]) -> list[NodeId]:
        self.fenced.append((self.clock.monotonic_ms(), brokers))
        for broker in brokers:
            self.image.brokers[broker].fenced = True  # type: ignore[misc]
        return brokers

    def lead(self, *, active: bool) -> None:
        self.is_active = active
        for tell in self.when_leadership_changes:
            tell()


class Case:
    def __init__(self) -> None:
        self.clock = SimClock()
        self.controller = FakeController(self.clock)
        calls = SimpleNamespace(serve=lambda *_: None, listen=lambda _: None)
        self.guard = Guard(
            cast(Any, self.controller), cast(Any, calls), self.clock,
            cluster_id=ZERO_UUID, founders=2, session_ms=SESSION_MS,
        )  # fmt: skip
        self.guard.start()

    async def run(self, duration_ms: float) -> int:
        """How often the node was woken meanwhile."""
        end_ms, woken = self.clock.monotonic_ms() + duration_ms, 0
        while self.clock.step(end_ms):
            woken += 1
            await asyncio.sleep(0)
        self.clock._now_ms = end_ms
        return woken


@pytest.fixture
async def case() -> Case:
    return Case()


async def test_a_node_that_does_not_decide_is_not_woken(case: Case) -> None:
    assert await case.run(10_000) == 0
    case.controller.lead(active=True)
    assert await case.run(1000) > 0
    case.controller.lead(active=False)
    assert await case.run(10_000) == 0
    assert case.controller.fenced == []


async def test_a_broker_whose_process_is_gone_is_fenced_at_once(case: Case) -> None:
    case.controller.lead(active=True)
    await case.run(1000)
    case.guard.unlinked(TWO, broken=True)
    case.guard.refused(TWO)
    await case.run(1)
    assert case.controller.fenced == [(1001, [TWO])]


async def test_what_a_node_had_seen_before_it_decides_counts_from_then_on(case: Case) -> None:
    case.guard.unlinked(TWO, broken=True)
    await case.run(1000)
    case.controller.lead(active=True)
    await case.run(GRACE_MS)
    assert case.controller.fenced == [(1000 + GRACE_MS, [TWO])]


async def test_who_is_silent_is_fenced_when_the_session_ends(case: Case) -> None:
    case.controller.lead(active=True)
    assert await case.run(SESSION_MS) == SESSION_MS / LOOK_MS
    assert case.controller.fenced == [(SESSION_MS, [ONE, TWO])]


async def test_a_guard_that_was_stopped_fences_nobody(case: Case) -> None:
    case.controller.lead(active=True)
    case.guard.stop()
    case.guard.unlinked(TWO, broken=True)
    case.controller.lead(active=True)
    assert await case.run(10_000) == 0


async def test_a_node_that_refuses_connections_again_and_again_hides_nobodys_silence(case: Case) -> None:
    case.controller.lead(active=True)
    for _ in range(int(SESSION_MS / REDIAL_MS)):
        await case.run(REDIAL_MS)
        case.guard.refused(DEAD)
    assert case.controller.fenced == [(SESSION_MS, [ONE, TWO])]
