"""Work shared by several mirror processes, through a group on the target.

The group subscribes to the progress topic. Who is assigned one of its partitions copies all partitions whose maps lie
there. So assignments come incrementally (KIP-848), and all transactions on a partition of that topic are of one
process. One that loses its share without knowing is fenced by whoever takes it over (`TransactionWriter.fence`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

from ottla.client.backoff import Backoff
from ottla.client.consumer import Consumer
from ottla.client.errors import ClientError
from ottla.client.types import TopicPartition
from ottla.mirror.core.progress import PROGRESS_TOPIC
from ottla.mirror.engine.side import Side

logger = logging.getLogger("ottla.mirror")

GROUP_ID: Final = "ottla-mirror"
_POLL_MS: Final = 500


class Share:
    """Of one target cluster. Calls `on_change` with the partitions that are ours; it returns when others are left."""

    def __init__(self, side: Side, on_change: Callable[[frozenset[int]], Awaitable[None]]) -> None:
        self._side = side
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self.partitions: frozenset[int] = frozenset()

    def start(self) -> None:
        """Join the group."""
        self._task = asyncio.create_task(self._run(), name=f"ottla-mirror-share-{self._side.alias}")

    async def close(self) -> None:
        """Leave the group."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        backoff = Backoff(200, 5_000)
        failures = 0
        while True:
            try:
                await self._member()
            except ClientError as error:
                failures += 1
                logger.warning("%s: the group of mirrors: %s", self._side.alias, error)
                await self._change(frozenset())
                await asyncio.sleep(backoff.delay_ms(failures) / 1000)

    async def _member(self) -> None:
        connection = asdict(self._side.connection)
        consumer = Consumer(
            PROGRESS_TOPIC,
            **connection,
            group_id=GROUP_ID,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=self._revoked,
        )
        async with consumer:
            while True:
                consumer.pause(*consumer.assignment())
                await consumer.poll(_POLL_MS)

    async def _assigned(self, partitions: list[TopicPartition]) -> None:
        await self._change(self.partitions | {one.partition for one in partitions})

    async def _revoked(self, partitions: list[TopicPartition]) -> None:
        await self._change(self.partitions - {one.partition for one in partitions})

    async def _change(self, partitions: frozenset[int]) -> None:
        if partitions != self.partitions:
            logger.info("%s: %d partitions of the progress topic are ours", self._side.alias, len(partitions))
            self.partitions = partitions
            await self._on_change(partitions)
