"""New producer ids, when a node remembers as many producers as it should."""

import asyncio

import pytest

from ottla.broker import producer_ids
from tests.unit.broker.one_broker import start_broker


async def test_beyond_the_limit_new_ids_come_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = await start_broker()
    ids = producer_ids.producer_ids(broker)
    first = await ids.next()
    monkeypatch.setattr(producer_ids, "PRODUCERS_AT_MOST", 0)
    monkeypatch.setattr(producer_ids, "THROTTLED_S", 0.05)
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert list(await asyncio.gather(ids.next(), ids.next())) == [first + 1, first + 2]
    assert loop.time() - before >= 0.09
