"""Several loops in one world: order, virtual time, crashes, and the same history from the same seed."""

import asyncio
import random
import time

import pytest

from ottla.testing.sim.loop import World


def history(seed: int) -> list[str]:
    world = World(random.Random(seed))
    told: list[str] = []

    async def work(name: str) -> None:
        for n in range(20):
            told.append(f"{name}{n}")
            await asyncio.sleep(0 if n % 3 else 0.5)

    for name in "abc":
        world.new_loop(name).create_task(work(name))
    world.run_for(60)
    return told


def test_the_same_seed_replays_the_same_history() -> None:
    assert history(1) == history(1)
    assert len({tuple(history(seed)) for seed in range(5)}) > 1


def test_each_node_keeps_its_own_order() -> None:
    told = history(3)
    for name in "abc":
        assert [t for t in told if t.startswith(name)] == [f"{name}{n}" for n in range(20)]


def test_an_hour_passes_at_once() -> None:
    world = World(random.Random(0))
    started = time.monotonic()

    async def wait() -> str:
        async with asyncio.timeout(7200):
            await asyncio.sleep(3600)
        return "done"

    assert world.new_loop("n").complete(wait(), within_s=4000) == "done"
    assert world.now_s == 3600
    assert time.monotonic() - started < 1


def test_a_crashed_node_does_nothing_more_and_others_go_on() -> None:
    world = World(random.Random(0))
    told: list[str] = []
    first, second = world.new_loop("first"), world.new_loop("second")
    for loop in (first, second):
        loop.call_later(1, told.append, loop.name)
        loop.call_later(3, told.append, f"{loop.name} later")
    world.run_for(2)
    first.crash()
    first.call_soon(told.append, "never")
    world.run_for(2)
    assert sorted(told) == ["first", "second", "second later"]


def test_what_does_not_come_is_said() -> None:
    world = World(random.Random(0))
    world.new_loop("n")
    with pytest.raises(AssertionError, match="does not hold after 5"):
        world.run_until(lambda: False, within_s=5)
