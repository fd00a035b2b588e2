"""Bytes that no client would send, at the doors of nodes: a process of its own, as the run's loop is for its clients.

    python attack.py flood|garbage SEED SECONDS HOST:PORT …      it ends earlier when its standard input does

A flood opens connections and keeps them, some silent and some in the middle of a request. Garbage is random bytes,
sizes that are lies, requests of tens of megabytes and other protocols. It imports nothing of Ottla.
"""

import asyncio
import os
import resource
import struct
import sys
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

PORT_CONNECTIONS: Final = 250
"""A port's share of a flood."""
GARBAGE_PER_SECOND: Final = 60
GIANT_BYTES: Final = 24 << 20
CHUNK_BYTES: Final = 1 << 20
PATIENCE_S: Final = 2.0

Address = tuple[str, int]


def _random_bytes(random: Random) -> bytes:
    return random.randbytes(random.randint(1, 4096))


def _huge_size(random: Random) -> bytes:
    """A frame of Kafka's that claims two gigabytes, or a negative size, or one that is refused by a little."""
    return struct.pack(">i", random.choice([2**31 - 1, -1, -(2**31), 100 * 1024 * 1024 + 1])) + random.randbytes(64)


def _broken_request(random: Random) -> bytes:
    """The header of a known request, and then noise. Only requests that by themselves change nothing."""
    api_key, version = random.choice([(0, 9), (1, 12), (2, 7), (3, 9), (18, 3)])
    header = struct.pack(">hhih", api_key, version, random.getrandbits(31), 4) + b"evil" + b"\0"
    body = random.randbytes(random.randint(0, 512))
    return struct.pack(">i", len(header) + len(body)) + header + body


def _half_a_request(random: Random) -> bytes:
    whole = _broken_request(random)
    return whole[: random.randint(1, len(whole))]


def _giant(random: Random) -> bytes:
    """Most of a request that is as large as is allowed, for the door that reads it."""
    return struct.pack(">i", 99 * 1024 * 1024) + bytes(random.randint(GIANT_BYTES // 8, GIANT_BYTES))


def _http(random: Random) -> bytes:
    return b"GET /" + b"a" * random.choice([1, 100_000]) + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def _http2(random: Random) -> bytes:
    """The preface, and a frame that claims 16 MB."""
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff" + random.randbytes(200)


def _tls(random: Random) -> bytes:
    return b"\x16\x03\x01\x40\x00\x01" + random.randbytes(300)


GARBAGE: Final[Sequence[Callable[[Random], bytes]]] = (
    _random_bytes,
    _random_bytes,
    _huge_size,
    _broken_request,
    _broken_request,
    _half_a_request,
    _http,
    _http2,
    _tls,
    _giant,
)


async def garbage(random: Random, addresses: Sequence[Address]) -> None:
    """One connection after the other, until it is cancelled."""
    while True:
        payload = random.choice(GARBAGE)(random)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await _send(random.choice(addresses), payload)
        except (OSError, TimeoutError):
            pass  # refused, reset, or never answered: all of that is as it should be
        await asyncio.sleep(random.expovariate(GARBAGE_PER_SECOND))


async def _send(address: Address, payload: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        for at in range(0, len(payload), CHUNK_BYTES):
            writer.write(payload[at : at + CHUNK_BYTES])
            await writer.drain()
        await reader.read(1024)
    finally:
        writer.transport.abort()


async def flood(random: Random, addresses: Sequence[Address]) -> None:
    """Keep as many as there may be open, each for some seconds, until it is cancelled."""
    async with asyncio.TaskGroup() as group:
        for address in addresses:
            for _ in range(PORT_CONNECTIONS):
                group.create_task(_occupy(Random(random.random()), address))


async def _occupy(random: Random, address: Address) -> None:
    while True:
        await asyncio.sleep(random.uniform(0, 2))
        try:
            async with asyncio.timeout(PATIENCE_S):
                _, writer = await asyncio.open_connection(*address)
        except (OSError, TimeoutError):
            continue
        try:
            if random.random() < 0.5:
                writer.write(_half_a_request(random))
            await asyncio.sleep(random.uniform(1, 8))
        finally:
            writer.transport.abort()


async def _attack(kind: str, seed: str, seconds: str, *addresses: str) -> None:
    parted = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in addresses)]
    work = garbage if kind == "garbage" else flood
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(work(Random(seed), parted))
    loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 1) else running.cancel())
    await asyncio.wait([running], timeout=float(seconds))
    running.cancel()
    await asyncio.wait([running])


if __name__ == "__main__":
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    asyncio.run(_attack(*sys.argv[1:]))
