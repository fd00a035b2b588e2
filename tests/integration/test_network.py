"""The network adapter: streams over TCP, refusals, back-pressure."""

import asyncio
import socket
from collections.abc import Callable

from ottla.adapters.network import AsyncioNetwork
from ottla.core.ports import Channel

WAIT_S = 20.0


class Peer:
    """A receiver that keeps what it hears; `echo` sends it back."""

    def __init__(self, *, echo: bool = False) -> None:
        self.channel: Channel | None = None
        self.heard = bytearray()
        self.drains = 0
        self.ended: list[Exception | None] = []
        self._echo = echo
        self._buffer = bytearray(1 << 16)

    def opened(self, channel: Channel) -> None:
        self.channel = channel

    def buffer(self) -> memoryview:
        return memoryview(self._buffer)

    def received(self, count: int) -> None:
        data = bytes(self._buffer[:count])
        self.heard += data
        if self._echo and self.channel is not None:
            self.channel.send([data])

    def drained(self) -> None:
        self.drains += 1

    def closed(self, error: Exception | None) -> None:
        self.ended.append(error)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.002)


async def test_bytes_arrive_in_order_both_ways() -> None:
    network = AsyncioNetwork(asyncio.get_running_loop())
    accepted: list[Peer] = []

    def accept(peer: str) -> Peer:
        assert peer.startswith("127.0.0.1:")
        accepted.append(Peer(echo=True))
        return accepted[0]

    listener = network.listen("127.0.0.1", 0, accept)
    dialled = Peer()
    network.connect("127.0.0.1", listener.port, dialled)
    await until(lambda: dialled.channel is not None)
    assert dialled.channel is not None
    wanted = b"".join(bytes([n % 251]) * n for n in range(1500))
    dialled.channel.send([wanted[:10], memoryview(wanted)[10:20]])
    dialled.channel.send([wanted[20:]])
    await until(lambda: len(dialled.heard) == len(wanted))
    assert dialled.heard == wanted
    dialled.channel.close()
    await until(lambda: accepted[0].ended != [] and dialled.ended != [])
    assert dialled.ended == [None]
    listener.close()


async def test_nobody_there_is_told_once() -> None:
    network = AsyncioNetwork(asyncio.get_running_loop())
    listener = network.listen("127.0.0.1", 0, lambda _: Peer())
    port = listener.port
    await asyncio.sleep(0)
    listener.close()
    await asyncio.sleep(0.01)
    dialled = Peer()
    network.connect("127.0.0.1", port, dialled)
    await until(lambda: dialled.ended != [])
    assert [type(error) for error in dialled.ended] == [ConnectionRefusedError]


async def test_what_the_other_side_does_not_read_is_counted_until_it_does() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        dialled = Peer()
        AsyncioNetwork(loop).connect("127.0.0.1", listening.getsockname()[1], dialled)
        reader, _ = await loop.sock_accept(listening)
        await until(lambda: dialled.channel is not None)
        channel = dialled.channel
        assert channel is not None
        left = 64 << 20
        channel.send([bytes(left)])
        await until(lambda: channel.queued_bytes > 0)
        while left:
            left -= len(await loop.sock_recv(reader, 1 << 20))
        await until(lambda: dialled.drains == 1)
        assert channel.queued_bytes == 0
        channel.abort()
        await until(lambda: dialled.ended != [])
        channel.send([b"into the void"])
        reader.close()
