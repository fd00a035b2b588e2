"""Commits offsets of a consumer's group, one commit after the other, and looks up what is committed."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from ottla.client.backoff import Backoff
from ottla.client.config import ConsumerConfig
from ottla.client.coordination import CoordinatorType, GroupMetadata, GroupOffsets, OffsetAndMetadata
from ottla.client.coordinators import Coordinators, is_gone
from ottla.client.errors import ClientError, CommitFailed, ErrorCode
from ottla.client.partitions import PartitionState
from ottla.client.transport import Transport
from ottla.client.types import TopicPartition

logger = logging.getLogger("ottla.client")

GROUP = CoordinatorType.GROUP
_NOT_A_MEMBER = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.REBALANCE_IN_PROGRESS,
    }
)


class Commits:
    """The commits of one consumer."""

    def __init__(
        self,
        config: ConsumerConfig,
        transport: Transport,
        coordinators: Coordinators,
        group_id: str,
        membership: Callable[[], GroupMetadata],
    ) -> None:
        self._config, self._transport, self._coordinators = config, transport, coordinators
        self._group_id = group_id
        self._membership = membership  # raises CommitFailed when nothing can be committed
        self._backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def commit(self, offsets: GroupOffsets) -> None:
        """Repeated while it may succeed, for `api_timeout_ms`. Raises CommitFailed, ClientError.

        A topic that was deleted is told soon: the others' offsets are committed then.
        """
        async with self._order:
            await self._commit(offsets)

    async def _commit(self, offsets: GroupOffsets) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + self._config.api_timeout_ms / 1000
        attempts = 0
        while offsets:
            group = self._membership()
            try:
                outcomes = await self._coordinators.attempt(
                    GROUP,
                    group.group_id,
                    lambda node_id, group=group, offsets=offsets: self._transport.groups.commit_offsets(  # type: ignore[misc]
                        node_id, group, offsets
                    ),
                )
                errors = {one: error for one, error in outcomes.items() if error is not None}
                if not errors:
                    return
                offsets = {one: offset for one, offset in offsets.items() if one in errors}
                error = next(iter(errors.values()))
                self._coordinators.told(GROUP, group.group_id, error)
            except ClientError as failure:
                error = failure
            if error.code in _NOT_A_MEMBER:
                raise CommitFailed(error)
            # A stale epoch: the coordinator has told a newer one, or will with the next heartbeat.
            may_succeed = error.retriable or error.code is ErrorCode.STALE_MEMBER_EPOCH
            attempts += 1
            delay = self._backoff.delay_ms(attempts) / 1000
            if not may_succeed or is_gone(error, began) or loop.time() + delay > deadline:
                raise error
            await asyncio.sleep(delay)

    def commit_soon(self, offsets: GroupOffsets) -> "asyncio.Task[None]":
        """Commit in the background, after the commits before it; a failure that nobody looks at is logged."""
        task = asyncio.get_running_loop().create_task(self.commit(offsets), name="ottla-client-commit")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("offsets were not committed: %s", error)

    async def finish(self) -> None:
        """Wait for what is committed in the background."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata | ClientError | None]:
        """One attempt. No offset is given while an open transaction may change it (KIP-447)."""
        group = GroupMetadata(group_id=self._group_id)
        return await self._coordinators.attempt(
            GROUP,
            group.group_id,
            lambda node_id: self._transport.groups.fetch_offsets(node_id, group, partitions, require_stable=True),
        )


def processed_offsets(states: Iterable[PartitionState]) -> dict[TopicPartition, OffsetAndMetadata]:
    """What the application is done with, where that is not committed yet."""
    return {
        state.topic_partition: OffsetAndMetadata(state.processed)
        for state in states
        if state.processed is not None and state.processed != state.committed
    }
