"""Which node coordinates what, and calls that go there: found once, and again whenever it moved."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from ottla.client.backoff import Backoff
from ottla.client.config import ConnectionConfig
from ottla.client.coordination import CoordinatorType
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import Transport

T = TypeVar("T")
Item = TypeVar("Item")
Value = TypeVar("Value")

# After these the coordinator may be another node.
_MOVED = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.BROKER_NOT_AVAILABLE,
    }
)


NEW_TOPIC_S = 2.0  # a coordinator has heard of a new topic by then; what it still misses is deleted


def is_gone(error: ClientError, began_s: float) -> bool:
    """Whether a topic that the coordinator misses since then (loop time) does not come any more."""
    missing = error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return missing and asyncio.get_running_loop().time() - began_s > NEW_TOPIC_S


class Coordinators:
    """The coordinators that one client has met."""

    def __init__(self, transport: Transport, config: ConnectionConfig) -> None:
        self._transport = transport
        self._config = config
        self._backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
        self._known: dict[tuple[CoordinatorType, str], int] = {}

    async def attempt(self, kind: CoordinatorType, key: str, call: Callable[[int], Awaitable[T]]) -> T:
        """One call to the coordinator, which is found first if it is not known. Raises ClientError."""
        node_id = self._known.get((kind, key))
        if node_id is None:
            node_id = self._known[kind, key] = await self._transport.groups.find_coordinator(kind, key)
        try:
            return await call(node_id)
        except ClientError as error:
            self.told(kind, key, error)
            raise

    def told(self, kind: CoordinatorType, key: str, error: ClientError) -> None:
        """An answer that may mean that the coordinator is another one now."""
        if error.code in _MOVED:
            self._known.pop((kind, key), None)

    async def ask(
        self, kind: CoordinatorType, key: str, call: Callable[[int], Awaitable[T]], timeout_ms: float | None = None
    ) -> T:
        """Attempts until one succeeds, for `timeout_ms` (None: `api_timeout_ms`) while errors are retriable.

        Only for calls that may be repeated.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._config.api_timeout_ms if timeout_ms is None else timeout_ms) / 1000
        attempts = 0
        while True:
            try:
                return await self.attempt(kind, key, call)
            except ClientError as error:
                attempts += 1
                delay = self._backoff.delay_ms(attempts) / 1000
                if not error.retriable or loop.time() + delay > deadline:
                    raise
                if error.code is ErrorCode.BROKER_NOT_AVAILABLE:
                    await self._transport.describe_cluster()  # a node that came after the last description
            await asyncio.sleep(delay)

    async def settle(
        self,
        kind: CoordinatorType,
        key: str,
        items: Mapping[Item, Value],
        call: Callable[[int, Mapping[Item, Value]], Awaitable[Mapping[Item, ClientError | None]]],
        timeout_ms: float | None = None,
    ) -> dict[Item, ClientError | None]:
        """As `ask`, for a call whose answer tells of each item by itself: what became of each.

        Such an answer (OffsetCommit's) also tells by item that the coordinator is another one or still loads. The call
        is repeated for these items. A missing topic is told at once.
        """
        left = dict(items)
        outcomes: dict[Item, ClientError | None] = {}

        async def attempt(node_id: int) -> None:
            nonlocal left
            outcomes.update(await call(node_id, left))
            left = {item: value for item, value in left.items() if _may_pass(outcomes[item])}
            for item in left:
                error = outcomes[item]
                assert error is not None
                raise error

        try:
            await self.ask(kind, key, attempt, timeout_ms)
        except ClientError:
            if len(outcomes) < len(items):
                raise
        return outcomes


def _may_pass(error: ClientError | None) -> bool:
    return error is not None and error.retriable and error.code is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
