"""Work shared by several mirror processes, through a group on the target.

The group subscribes to the progress topic. Who is assigned one of its partitions copies all partitions whose maps lie
there. So assignments come incrementally (KIP-848), and all transactions on a partition of that topic are of one
process. One that loses its share without knowing is fenced by whoever takes it over (`TransactionWriter.fence`).

A process that was killed would keep its share until its session ends, which takes 45 s with Kafka's defaults, and less
is not allowed there. So the others look for members whose process is gone from this host, or has written no report for
a while, and have them leave. A mistake costs only a rebalance: whoever lives joins again, and was fenced properly.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

from ottla.client.backoff import Backoff
from ottla.client.consumer import Consumer
from ottla.client.coordination import CoordinatorType, GroupMember, HeartbeatRequest
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.membership import LEAVE_EPOCH
from ottla.client.types import TopicPartition
from ottla.mirror.core.progress import PROGRESS_TOPIC
from ottla.mirror.engine.reports import INTERVAL_S, Reports
from ottla.mirror.engine.side import Side

logger = logging.getLogger("ottla.mirror")

GROUP_ID: Final = "ottla-mirror"
CLIENT_PREFIX: Final = "ottla-mirror/"
_POLL_MS: Final = 500


class Share:
    """Of one target cluster. Calls `on_change` with the partitions that are ours; it returns when others are left."""

    def __init__(
        self,
        side: Side,
        process: str,
        reports: Reports,
        on_change: Callable[[frozenset[int]], Awaitable[None]],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        self._side = side
        self._process = process
        self._reports = reports
        self._seen: dict[str, float] = {}  # member ids, and since when (monotonic) we know of them
        self._on_change, self._on_trouble = on_change, on_trouble
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
                told = self._side.explained(error, "Read", GROUP_ID)
                self._on_trouble(f"no share of the work, as the group {GROUP_ID} is not joined: {told}")
                await self._change(frozenset())
                await asyncio.sleep(backoff.delay_ms(failures) / 1000)

    async def _member(self) -> None:
        await self._evict(has_joined=False)
        connection = {**asdict(self._side.connection), "client_id": CLIENT_PREFIX + self._process}
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
        loop = asyncio.get_running_loop()
        evict_at = loop.time() + INTERVAL_S
        async with consumer:
            while True:
                consumer.pause(*consumer.assignment())
                await consumer.poll(_POLL_MS)
                if loop.time() > evict_at:
                    evict_at = loop.time() + INTERVAL_S
                    self._on_trouble(None)
                    await self._evict(has_joined=True)

    async def _evict(self, *, has_joined: bool) -> None:
        """Have members leave whose process is gone; who joins anew, also what is left of his membership before."""
        transport, coordinators = self._side.transport, self._side.coordinators
        try:
            group = await coordinators.ask(
                CoordinatorType.GROUP, GROUP_ID, lambda node_id: transport.groups.describe_group(node_id, GROUP_ID)
            )
            now = time.monotonic()
            self._seen = {one.member_id: self._seen.get(one.member_id, now) for one in group.members}
            for member in group.members:
                is_ours = member.client_id == CLIENT_PREFIX + self._process
                if is_ours and has_joined:
                    continue
                if is_ours or self._is_gone(member):
                    if not is_ours:
                        logger.warning("%s: %s is gone; others take its share", self._side.alias, member.client_id)
                    leaving = HeartbeatRequest(group_id=GROUP_ID, member_id=member.member_id, member_epoch=LEAVE_EPOCH)
                    await transport.groups.heartbeat(group.coordinator_id, leaving)
        except ClientError as error:
            if error.code is not ErrorCode.GROUP_ID_NOT_FOUND:
                logger.debug("%s: the group of mirrors: %s", self._side.alias, error)

    def _is_gone(self, member: GroupMember) -> bool:
        process = member.client_id.removeprefix(CLIENT_PREFIX)
        if process == member.client_id:
            return False  # no mirror
        host, _, pid = process.rpartition("-")
        if host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid)):
            return True
        return self._reports.is_silent(process, self._seen[member.member_id])

    async def _assigned(self, partitions: list[TopicPartition]) -> None:
        await self._change(self.partitions | {one.partition for one in partitions})

    async def _revoked(self, partitions: list[TopicPartition]) -> None:
        await self._change(self.partitions - {one.partition for one in partitions})

    async def _change(self, partitions: frozenset[int]) -> None:
        if partitions:
            self._on_trouble(None)
        if partitions != self.partitions:
            logger.info("%s: %d partitions of the progress topic are ours", self._side.alias, len(partitions))
            self.partitions = partitions
            await self._on_change(partitions)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
