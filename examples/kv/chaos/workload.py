"""Clients that write and read all the time, and write down what they asked, when, and what they were told."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from random import Random

from examples.kv.client import KeyValueClient, Unavailable
from ottla.testing.sim.register import Action, Append, CompareAndSet, History, Read, Write

KEYS = 5  # in use at a time: few, so that clients meet
OPERATIONS_A_KEY = 150  # then others are used: a judge has to look at all operations of a key together
TIMEOUT_S = 5.0  # some operations take longer while most nodes are dead, so that some outcomes stay unknown


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that a client knows to be committed."""

    at: float
    node: int  # which answered, so it led


class Workload:
    """`clients` of them, each with a session of its own."""

    def __init__(self, nodes: Sequence[str], random: Random, *, clients: int = 5, pause_s: float = 0.004) -> None:
        self.history = History()
        self.writes: list[Acknowledged] = []
        self._random, self._pause_s = random, pause_s
        self._clients = [KeyValueClient(nodes, timeout_s=TIMEOUT_S) for _ in range(clients)]
        self._tasks: list[asyncio.Task[None]] = []
        self._values = 0
        self._stopped = False

    @property
    def leader(self) -> int:
        """The node that acknowledged last; 0 before the first time."""
        return self.writes[-1].node if self.writes else 0

    def start(self) -> None:
        self._tasks = [asyncio.ensure_future(self._use(f"c{n}", c)) for n, c in enumerate(self._clients, 1)]

    def check(self) -> None:
        """Raises what a client failed with, if one did: it is no outcome of an operation."""
        for task in self._tasks:
            if task.done() and (error := task.exception()) is not None:
                raise error

    async def stop(self) -> None:
        """After the operations under way; then every key is read once more."""
        self._stopped = True
        await asyncio.gather(*self._tasks)
        client = self._clients[0]
        for key in sorted({operation.key for operation in self.history.operations}):
            await self._record("c1", client, key, Read())
        for client in self._clients:
            await client.close()

    async def wait_for_write(self, after: float, timeout_s: float) -> None:
        """Return once a write that was acknowledged later than `after` is known. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not self.writes or self.writes[-1].at <= after:
                self.check()
                await asyncio.sleep(0.005)

    # --

    async def _use(self, name: str, client: KeyValueClient) -> None:
        while not self._stopped:
            generation = len(self.history) // (KEYS * OPERATIONS_A_KEY)
            key = f"{generation}-{self._random.randrange(KEYS)}"
            await self._record(name, client, key, self._draw())
            await asyncio.sleep(2 * self._pause_s * self._random.random())

    def _draw(self) -> Action:
        self._values += 1
        value = f"{self._values};".encode()
        drawn = self._random.random()
        if drawn < 0.4:
            return Read()
        if drawn < 0.7:
            return Append(value)
        if drawn < 0.85:
            return Write(value)
        if drawn < 0.95:
            return CompareAndSet(None, value)
        return Write(None)

    async def _record(self, name: str, client: KeyValueClient, key: str, action: Action) -> None:
        if isinstance(action, CompareAndSet) and self._random.random() < 0.8:  # against the present value, if it stays
            try:
                action = CompareAndSet(await client.get(key.encode()), action.value)
            except Unavailable:
                return
        number = self.history.invoke(name, key, action, time.monotonic())
        try:
            answered = await _perform(client, key.encode(), action)
        except Unavailable as error:
            if not error.is_unknown:
                self.history.fail(number, time.monotonic())
            return
        now = time.monotonic()
        self.history.complete(number, now, answered)
        if not isinstance(action, Read):
            self.writes.append(Acknowledged(now, client.answered_by))


def _perform(client: KeyValueClient, key: bytes, action: Action) -> Awaitable[Action]:
    match action:
        case Read():
            return _read(client, key)
        case Append(suffix):
            return _append(client, key, suffix)
        case Write(value):
            return _write(client, key, value)
        case CompareAndSet(expected, value):
            return _compare_and_set(client, key, expected, value or b"")


async def _read(client: KeyValueClient, key: bytes) -> Action:
    return Read(await client.get(key))


async def _append(client: KeyValueClient, key: bytes, suffix: bytes) -> Action:
    return Append(suffix, await client.append(key, suffix))


async def _write(client: KeyValueClient, key: bytes, value: bytes | None) -> Action:
    if value is None:
        return Write(None, await client.delete(key))
    await client.set(key, value)
    return Write(value)


async def _compare_and_set(client: KeyValueClient, key: bytes, expected: bytes | None, value: bytes) -> Action:
    return CompareAndSet(expected, value, await client.compare_and_set(key, expected, value))
