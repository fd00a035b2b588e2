"""What aiokafka does oddly is made good: a consumer's close that cancels itself."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.testing.chaos.clients.aiokafka_library import _Consumer


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
