"""A listener with TLS: which context a connection gets, and what becomes of those that cannot shake hands."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog.testing

from ottla.adapters import tls
from ottla.adapters.tls import TlsListener
from ottla.node.certificates import Certificates


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Listening:
    def __init__(self, directory: Path) -> None:
        self.certificates = Certificates(directory / "tls")
        self.certificates.create(["localhost"], 2)
        self.node = 1
        bound = socket.create_server(("127.0.0.1", 0))
        self.port = bound.getsockname()[1]
        self.listener = TlsListener(asyncio.get_running_loop(), bound, Echo, self.context, door="test", backlog=10)

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self.certificates.node(self.node)
        context.load_cert_chain(pair.certificate, pair.key)
        return context

    async def greet(self) -> bytes:
        """The certificate that is shown."""
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with suppress(ssl.SSLError):
            await writer.wait_closed()
        return shown

    async def send(self, data: bytes) -> None:
        """Plain bytes; return when the listener has hung up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Listening]:
    made = Listening(tmp_path)
    yield made
    made.listener.close()
    await made.listener.wait_closed()


async def test_each_connection_gets_the_context_that_is_in_force(listening: Listening) -> None:
    first = await listening.greet()
    listening.node = 2
    second = await listening.greet()
    assert first != second
    assert await listening.greet() == second


async def test_a_stranger_costs_one_line(listening: Listening) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await listening.send(b"nothing like TLS")
        await listening.greet()
    assert [line["reason"] for line in lines if line["log_level"] == "warning"] == [
        "these bytes are not TLS: the other end speaks without it"
    ]
    assert lines[0]["peer"] == "127.0.0.1"


async def test_strangers_hold_only_so_many_places(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 1)
    reader, silent = await asyncio.open_connection("127.0.0.1", listening.port)
    while not listening.listener._handshakes:  # noqa: ASYNC110 - sets no event
        await asyncio.sleep(0)
    with structlog.testing.capture_logs() as lines:
        await listening.send(b"")
    assert "1 handshakes are under way already" in lines[0]["reason"]
    silent.close()
    with suppress(ConnectionError):
        await reader.read()
    while listening.listener._handshakes:  # noqa: ASYNC110 - sets no event
        await asyncio.sleep(0.001)
    await listening.greet()


async def test_a_closed_listener_lets_go_of_handshakes_and_keeps_connections(listening: Listening) -> None:
    context = ssl.create_default_context(cafile=str(listening.certificates.ca))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listening.port, ssl=context, server_hostname="localhost"
    )
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    silent = socket.create_connection(("127.0.0.1", listening.port))
    while not listening.listener._handshakes:  # noqa: ASYNC110 - sets no event
        await asyncio.sleep(0)
    listening.listener.close()
    await listening.listener.wait_closed()
    writer.write(b"still")
    assert await reader.readexactly(5) == b"still"
    silent.close()
    writer.close()
    with suppress(ssl.SSLError):
        await writer.wait_closed()
