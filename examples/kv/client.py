"""A client of the store: finds the leader, and sends a write again until it knows its outcome, under the same name.

client = KeyValueClient(["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"])
await client.append(b"names", b"Ada;")  # 4: the value's length now
await client.get(b"names")  # b"Ada;"
await client.close()
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from examples.kv.commands import Append, Command, CompareAndSet, Delete, Set, Status
from examples.kv.protocol import (
    MAX_LINE_BYTES,
    Describe,
    Error,
    Get,
    Open,
    Reply,
    Request,
    State,
    Write,
    decode_reply,
    encode_request,
)

PAUSE_S = 0.01  # before the next node is asked, when nobody knows who leads
ATTEMPT_S = 3.0  # a leader that is cut off notices sooner, and says so

_NOTHING_HAPPENED = (Error.NOT_LEADER, Error.OVERLOADED)


class Unavailable(Exception):
    """No answer in time. With `is_unknown` it may have happened, or may yet."""

    def __init__(self, message: str, *, is_unknown: bool) -> None:
        super().__init__(message)
        self.is_unknown = is_unknown


class Refused(Exception):
    """The request is none that a node takes; nothing happened."""


class BadAddress(ValueError):
    """No HOST:PORT."""


class KeyValueClient:
    """One caller at a time: its session has one write under way."""

    def __init__(self, nodes: Sequence[str], *, timeout_s: float = 10.0) -> None:
        """`nodes`: some or all, as HOST:PORT. Raises BadAddress."""
        self._addresses = [_address(node) for node in nodes]
        if not self._addresses:
            raise BadAddress("at least one node, as HOST:PORT")
        self._timeout_s = timeout_s
        self._at = 0  # the one to ask
        self._known: dict[int, int] = {}  # where in the list a node stands
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._session = self._sequence = 0
        self.answered_by = 0
        """The node that gave the last answer."""

    async def get(self, key: bytes) -> bytes | None:
        return (await self._until_answered(Get(key))).value

    async def set(self, key: bytes, value: bytes) -> None:
        await self._write(Set(key, value))

    async def append(self, key: bytes, suffix: bytes) -> int:
        """The value's length afterwards."""
        return (await self._write(Append(key, suffix))).length

    async def delete(self, key: bytes) -> bool:
        """Whether there was a value."""
        return (await self._write(Delete(key))).status is Status.OK

    async def compare_and_set(self, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """Whether the value was `expected` (None: absent), and so is `value` now."""
        return (await self._write(CompareAndSet(key, expected, value))).status is Status.OK

    async def describe(self) -> tuple[int, State]:
        """The node that is asked first, and what it knows; one attempt. Raises OSError, TimeoutError, ValueError."""
        reply = await self._attempt(Describe())
        if reply.state is None:
            raise ValueError(f"node {reply.node} did not describe itself: {reply.detail}")
        return reply.node, reply.state

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with suppress(OSError):
                await streams[1].wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --

    async def _write(self, command: Command) -> Reply:
        """Raises Unavailable or Refused, as all do."""
        while True:
            if not self._session:
                self._session = (await self._until_answered(Open())).client
                self._sequence = 0
            self._sequence += 1
            reply = await self._until_answered(Write(command, self._session, self._sequence))
            if reply.error is not Error.EXPIRED:
                return reply
            self._session = 0  # and nothing happened: the command goes under another name

    async def _until_answered(self, request: Request) -> Reply:
        """An answer, or EXPIRED where it is sure that nothing happened."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        is_unknown = False
        problem = "no node was asked"
        while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(min(left_s, ATTEMPT_S)):
                    reply = await self._attempt(request)
            except ConnectionRefusedError as error:
                problem = str(error)
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                is_unknown, problem = True, repr(error)
            else:
                match reply.error:
                    case None:
                        return reply
                    case Error.INVALID:
                        raise Refused(reply.detail)
                    case Error.EXPIRED:
                        if not is_unknown:
                            return reply
                        self._session = 0  # an attempt before this one may have been applied in it
                        raise Unavailable(reply.detail, is_unknown=True)
                is_unknown |= reply.error not in _NOTHING_HAPPENED
                problem = reply.detail
                if reply.leader is not None and self._turn_to(reply.leader):
                    continue
            self._turn_to_next()
            await asyncio.sleep(PAUSE_S)
        raise Unavailable(f"no answer within {self._timeout_s} s; the last: {problem}", is_unknown=is_unknown)

    async def _attempt(self, request: Request) -> Reply:
        whole = False
        try:
            if self._streams is None:
                host, port = self._addresses[self._at]
                self._streams = await asyncio.open_connection(host, port, limit=MAX_LINE_BYTES)
            reader, writer = self._streams
            writer.write(encode_request(request))
            reply = decode_reply(await reader.readuntil())
            whole = True
        finally:
            if not whole:  # what may still come would be taken for the next answer
                self._hang_up()
        self._known[reply.node] = self._at
        self.answered_by = reply.node
        return reply

    def _turn_to(self, node: int) -> bool:
        """To the node that is said to lead; False when it is the one that was asked, or nobody knows where it is."""
        at = self._known.get(node)
        if at is None or at == self._at:
            return False
        self._hang_up()
        self._at = at
        return True

    def _turn_to_next(self) -> None:
        self._hang_up()
        self._at = (self._at + 1) % len(self._addresses)

    def _hang_up(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()


def _address(node: str) -> tuple[str, int]:
    host, colon, port = node.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise BadAddress(f"{node!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
