"""One mirror process: the clusters that it knows, its flows, its share of their work."""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from ottla.client.types import TopicPartition
from ottla.core.errors import ConfigError
from ottla.mirror.config import FlowConfig, MirrorConfig
from ottla.mirror.core.runs import Run
from ottla.mirror.engine.bookkeeping import Bookkeeping
from ottla.mirror.engine.flow import FlowRunner
from ottla.mirror.engine.groups import FlowBack, GroupKeeper
from ottla.mirror.engine.heartbeats import beat
from ottla.mirror.engine.offset_sync_writer import OffsetSyncWriter
from ottla.mirror.engine.reporting import Reporting
from ottla.mirror.engine.reports import Reporter
from ottla.mirror.engine.sharing import Share
from ottla.mirror.engine.side import Side

logger = logging.getLogger("ottla.mirror")

_FIRST: Final = 0  # whoever has this partition of the progress topic does what one process does for all


class MirrorProcess:
    """`async with MirrorProcess(config):` copies until the block ends. ClientError when a cluster is not there."""

    def __init__(self, config: MirrorConfig) -> None:
        self.config = config
        self.sides: dict[str, Side] = {}
        self.books: dict[str, Bookkeeping] = {}
        self.flows: dict[str, FlowRunner] = {}
        self.keepers: dict[str, GroupKeeper] = {}
        self._syncs: dict[str, OffsetSyncWriter] = {}
        self._mine: dict[str, asyncio.Event] = {}  # by target: whether we have the first partition
        self._tasks: list[asyncio.Task[None]] = []
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        aliases = sorted({alias for flow in self.config.flows for alias in (flow.source, flow.target)})
        for alias in aliases:
            side = self.sides[alias] = Side(self.config.clusters[alias], "ottla-mirror")
            self._stack.push_async_callback(side.close)
        await asyncio.gather(*(side.open() for side in self.sides.values()))
        for flow in self.config.flows:
            if self.sides[flow.source].cluster_id == self.sides[flow.target].cluster_id:
                raise ConfigError(
                    f"{flow.name}: both are the same cluster ({self.sides[flow.source].cluster_id}); a flow leads to "
                    "another one: look at the bootstrap servers"
                )
        for alias, side in self.sides.items():
            books = self.books[alias] = Bookkeeping(side)
            self._stack.push_async_callback(books.close)
        await asyncio.gather(*(self._start_target(alias) for alias in {flow.target for flow in self.config.flows}))
        self._stack.push_async_callback(self._end_tasks)
        for (source, target), interval_ms in self.config.heartbeats().items():
            flow = next(one for one in self.config.flows if {one.source, one.target} == {source, target})
            # On a flow's source too: what is copied from there tells readers of the target how far away it is.
            beating = beat(
                source,
                self.sides[target],
                flow.policy.heartbeats_topic(),
                interval_ms,
                flow.heartbeats_replication_factor,
                flow.admin_timeout_ms,
            )
            self._tasks.append(asyncio.create_task(beating, name=f"ottla-mirror-heartbeats-{source}-{target}"))
        for name, keeper in self.keepers.items():
            runner = self.flows[name]
            keeping = keeper.run(runner.known_names, self._mine[runner.config.target])
            self._tasks.append(asyncio.create_task(keeping, name=f"ottla-mirror-groups-{name}"))

    async def _start_target(self, alias: str) -> None:
        flows = [flow for flow in self.config.flows if flow.target == alias]
        side, books = self.sides[alias], self.books[alias]
        partitions = await books.ensure_topic(
            flows[0].progress_partitions, flows[0].progress_replication_factor, flows[0].admin_timeout_ms
        )
        known = (books, *(self.books[flow.source] for flow in flows))
        await asyncio.gather(*(one.catch_up(committed_only=True) for one in known))
        mine = self._mine[alias] = asyncio.Event()
        runners = []
        for config in flows:
            source = self.sides[config.source]
            runner = FlowRunner(config, source, side, books, self.books[config.source], partitions, self._on_copied)
            runners.append(runner)
            self.flows[config.name] = runner
            way_back = self.config.flow_back(config)
            back = None if way_back is None else FlowBack(way_back, self.books[config.source].ledger)
            self.keepers[config.name] = GroupKeeper(config, source, side, books.ledger, runner.troubles, back)
            reporting = Reporting(Reporter(config.name, self.name), side, runner.copiers, runner.troubles)
            self._stack.push_async_callback(reporting.close)
            self._stack.push_async_callback(runner.close)
            runner.start()
            reporting.start()
            if config.emit_offset_syncs:
                syncs = self._syncs[config.name] = OffsetSyncWriter(config, source, side)
                self._stack.push_async_callback(syncs.close)

        async def take(share: frozenset[int]) -> None:
            if share:
                await books.catch_up(dict.fromkeys(share), committed_only=True)
            await asyncio.gather(*(runner.take(share) for runner in runners))
            if _FIRST in share:
                mine.set()
            else:
                mine.clear()

        def trouble(error: str | None) -> None:
            for runner in runners:
                runner.troubles.keep("share", {} if error is None else {"": error})

        shared = Share(side, self.name, books.reports, take, trouble)
        self._stack.push_async_callback(shared.close)
        shared.start()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _on_copied(self, flow: FlowConfig, source: TopicPartition, target: TopicPartition, runs: Sequence[Run]) -> None:
        syncs = self._syncs.get(flow.name)
        if syncs is not None:
            syncs.offer(source, runs)
