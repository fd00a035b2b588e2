"""What a request held is gone with its answer, without the garbage collector: a Fetch answer may be megabytes."""

import gc
from collections.abc import Iterator

import pytest

from ottla.broker.fetch import WaitingFetch
from ottla.broker.produce import ProducedPartition, ProduceRequest
from tests.unit.broker.hot_path import HotPath, batch, wanted


@pytest.fixture
def broker() -> HotPath:
    return HotPath({"t": 1})


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(kind: type) -> int:
    return sum(type(thing) is kind for thing in gc.get_objects())


def test_an_answered_fetch_is_gone(broker: HotPath) -> None:
    broker.append("t")
    for _ in range(3):
        broker.start_fetch([wanted("t")], min_bytes=1, max_wait_ms=500)
    assert alive(WaitingFetch) == 0


def test_a_fetch_that_waited_is_gone(broker: HotPath) -> None:
    responses, waiting = broker.start_fetch([wanted("t")], min_bytes=1, max_wait_ms=60_000)
    broker.append("t")
    broker.clock.run_for(120_000)
    assert len(responses) == 1
    del responses, waiting
    assert alive(WaitingFetch) == 0


def test_an_answered_produce_is_gone(broker: HotPath) -> None:
    answered = []
    for _ in range(3):
        request = ProduceRequest(acks=-1, timeout_ms=30_000, topics=[("t", [(0, batch())])])
        broker.produce(request, lambda topics: answered.append(len(topics)))
    broker.clock.run_for(120_000)
    assert answered == [1, 1, 1]
    assert alive(ProducedPartition) == 0
