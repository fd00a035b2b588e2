"""The clusters of some flows, and what the progress topics of their targets say."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import TopicPartition
from ottla.core.errors import ConfigError
from ottla.mirror.config import FlowConfig, MirrorConfig
from ottla.mirror.core.progress import CopiedPartition, MapId
from ottla.mirror.engine.bookkeeping import Bookkeeping
from ottla.mirror.engine.exact_books import Copies, ExactCopies, exact_copies
from ottla.mirror.engine.groups import FlowBack
from ottla.mirror.engine.side import Side

_SOURCE_PATIENCE_S = 5.0


class Observer:
    """Open while one question is answered. A source that cannot be reached is not in `sides`; `errors` tells why.

    `without`: aliases of sources that are taken for lost.
    """

    def __init__(self, config: MirrorConfig, flows: Iterable[FlowConfig], *, without: Iterable[str] = ()) -> None:
        self.config = config
        self.flows = tuple(flows)
        self.sides: dict[str, Side] = {}
        self.books: dict[str, Bookkeeping] = {}
        lost = ClientError(ErrorCode.REQUEST_TIMED_OUT, "it was not asked")
        self.errors: dict[str, ClientError] = dict.fromkeys(without, lost)  # by alias
        self._exact: dict[str, ExactCopies] = {}  # by flow
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        targets = {flow.target for flow in self.flows}
        aliases = {flow.source for flow in self.flows} | targets
        asked = sorted(aliases - self.errors.keys())
        await asyncio.gather(*(self._reach(alias, required=alias in targets) for alias in asked))
        with_way_back = {flow.source for flow in self.flows if self.config.flow_back(flow) is not None}
        for alias in targets | (with_way_back & self.sides.keys()):
            books = self.books[alias] = Bookkeeping(self.sides[alias])
            self._stack.push_async_callback(books.close)
            await books.catch_up()
        await self.look_again()

    async def look_again(self) -> None:
        """See how far exact copies are now; those of other flows are followed."""
        for flow in self.flows:
            if flow.exact:
                self._exact[flow.name] = await exact_copies(flow, self.sides[flow.target])

    def ledger(self, flow: FlowConfig) -> Copies:
        """What is known of the flow's copies."""
        return self._exact[flow.name] if flow.exact else self.books[flow.target].ledger

    async def _reach(self, alias: str, *, required: bool) -> None:
        side = Side(self.config.clusters[alias], "ottla-mirror-operator")
        self._stack.push_async_callback(side.close)
        try:
            async with asyncio.timeout(None if required else _SOURCE_PATIENCE_S):
                await side.open()
        except (ClientError, TimeoutError) as error:
            if required:
                raise
            self.errors[alias] = (
                error if isinstance(error, ClientError) else ClientError(ErrorCode.REQUEST_TIMED_OUT, "no answer")
            )
        else:
            self.sides[alias] = side

    def back(self, flow: FlowConfig) -> FlowBack | None:
        """The flow in the other direction, where there is one and its target can be asked."""
        way_back = self.config.flow_back(flow)
        books = self.books.get(flow.source)
        return None if way_back is None or books is None else FlowBack(way_back, books.ledger)

    def wanted(self, flow: FlowConfig) -> dict[str, str]:
        """Of topics on the target, by those on the source; without a source, those that were copied from it."""
        source = self.sides.get(flow.source)
        if source is not None:
            names = {name: flow.remote_topic(name) for name in source.topics if flow.takes_topic(name)}
        else:
            names = {one.source_topic: one.target_topic for one in self.ledger(flow) if one.source_alias == flow.source}
        return dict(sorted(names.items()))

    def names(self, flow: FlowConfig) -> dict[str, str]:
        """Those of them that are there on the target."""
        target = self.sides[flow.target]
        return {name: remote for name, remote in self.wanted(flow).items() if remote in target.topics}

    def copy_of(self, flow: FlowConfig, partition: TopicPartition) -> CopiedPartition | None:
        """What is known of a partition's copy, by its name on the source."""
        source, target = self.sides.get(flow.source), self.sides[flow.target]
        remote_id = target.topic_id(flow.remote_topic(partition.topic))
        if remote_id is None:
            return None
        ledger = self.ledger(flow)
        if source is not None:
            source_id = source.topic_id(partition.topic)
            if source_id is None:
                return None
            return ledger.get(MapId(source.cluster_id, source_id, remote_id, partition.partition))
        found = [
            one
            for one in ledger
            if one.source_alias == flow.source
            and one.source_topic == partition.topic
            and one.map_id.target_topic_id == remote_id
            and one.map_id.partition == partition.partition
        ]
        return found[-1] if found else None


def chosen(config: MirrorConfig, names: Iterable[str]) -> list[FlowConfig]:
    """The flows of these names, or all. Raises ConfigError for one that the file does not have."""
    flows = []
    for name in names:
        flow = config.flow(name)
        if flow is None:
            known = ", ".join(one.name for one in config.flows) or "none is enabled"
            raise ConfigError(f"there is no flow {name}; the file has: {known}")
        flows.append(flow)
    return flows or list(config.flows)
