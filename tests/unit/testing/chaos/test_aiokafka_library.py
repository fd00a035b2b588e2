"""What aiokafka does oddly is made good: a close that cancels itself, a commit of a part of a transaction."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.testing.chaos.clients.aiokafka_library import _Consumer, _Producer
from ottla.testing.chaos.clients.port import At, Failure, Remedy


class Cancelled:
    """A consumer whose `stop` lets out the cancellation of one of its own fetches."""

    def __init__(self, seconds: float = 0) -> None:
        self.connections_closed = False
        self._seconds = seconds
        self._client: Any = SimpleNamespace(close=self._close)

    async def stop(self) -> None:
        await asyncio.sleep(self._seconds)
        raise asyncio.CancelledError

    async def _close(self) -> None:
        self.connections_closed = True


async def test_a_member_outlives_the_close_of_a_consumer_whose_fetch_waited() -> None:
    consumer: Any = Cancelled()
    await _Consumer(consumer, "group").close()
    assert consumer.connections_closed


async def test_who_is_cancelled_while_closing_is_cancelled() -> None:
    consumer: Any = Cancelled(30)
    closing = asyncio.create_task(_Consumer(consumer, "group").close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not consumer.connections_closed


class Forgetful:
    """A producer that gives up a record, and commits without it."""

    def __init__(self, error: Exception | None) -> None:
        self.committed = False
        self._error = error
        self._sent: list[asyncio.Future[Any]] = []

    async def send(self, *_: object, **__: object) -> "asyncio.Future[Any]":
        self._sent.append(asyncio.get_running_loop().create_future())
        return self._sent[-1]

    async def flush(self) -> None:
        for one in self._sent:
            if self._error is None:
                one.set_result(SimpleNamespace(offset=0))
            else:
                one.set_exception(self._error)
        await asyncio.sleep(0)

    async def commit_transaction(self) -> None:
        self.committed = True


async def test_a_transaction_is_not_committed_without_a_record_that_was_given_up() -> None:
    inner: Any = Forgetful(TimeoutError("too late"))
    producer = _Producer(inner)
    told = await producer.send(At("t", 0), "v")
    with pytest.raises(Failure, match="given up: too late") as failure:
        await producer.commit()
    assert (failure.value.is_known, failure.value.remedy) == (True, Remedy.CLOSE)
    assert not inner.committed
    with pytest.raises(Failure):
        await told


async def test_a_whole_transaction_is_committed() -> None:
    inner: Any = Forgetful(None)
    producer = _Producer(inner)
    await producer.send(At("t", 0), "v")
    await producer.commit()
    assert inner.committed
