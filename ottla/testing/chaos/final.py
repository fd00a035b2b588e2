"""After the faults: does everything come to rest within its limits, and what stands in the topics in the end?

What does not come to rest is named as *stuck*. The last reads go into the history like everybody's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ottla.testing.chaos.clients.port import At, Failure, Library
from ottla.testing.chaos.workloads import bank, copying, table
from ottla.testing.chaos.workloads.plan import Workload
from ottla.testing.chaos.workloads.scene import Log, plain
from ottla.testing.history import At as Offset
from ottla.testing.history import EndOffsets, OffsetFetch, Outcome, Recorder, now_ns

LIMIT_S: Final = 45.0
"""How long replicas may take to be in sync, groups to come to the end, transactions to end."""
READ_S: Final = 90.0


@dataclass(slots=True)
class Rest:
    """How long each took, in seconds from the last heal on; and what did not come to rest."""

    in_sync_s: float | None = None
    groups_s: float | None = None
    transactions_s: float | None = None
    stuck: list[str] = field(default_factory=list)


class Ending:
    """Of one run, by a library of its own."""

    def __init__(self, library: Library, recorder: Recorder, prefix: str, workloads: Sequence[Workload]) -> None:
        self._library, self._recorder, self._prefix, self._workloads = library, recorder, prefix, workloads
        self._topics = [topic for one in workloads for topic in one.topics(prefix, 1)]
        self._since = time.monotonic()
        self.rest = Rest()

    def _places(self, topic: str) -> list[At]:
        count = next(one.partitions for one in self._topics if one.name == topic)
        return [At(topic, number) for number in range(count)]

    def _all(self) -> list[At]:
        return [at for topic in self._topics for at in self._places(topic.name)]

    # -- coming to rest

    async def until_in_sync(self) -> None:
        """Every replica of every partition, internal topics included where they can be seen."""

        async def lacking() -> str:
            names = [topic.name for topic in self._topics]
            found = await self._library.partitions([*names, *await self._internal()])
            out = [one for one in found if one.leader < 0 or set(one.in_sync) != set(one.replicas)]
            return (
                ""
                if not out
                else (
                    f"{len(out)} partitions are not in sync, as {out[0].at.topic}-{out[0].at.partition}: "
                    f"replicas {out[0].replicas}, in sync {out[0].in_sync}, leader {out[0].leader}"
                )
            )

        self.rest.in_sync_s = await self._until("replicas", lacking)

    async def until_sources_are_calm(self) -> None:
        """Nobody writes to what groups read."""
        places = [at for at in self._all() if at.topic in self._read_by_groups().values()]
        if not places:
            return
        before: dict[At, int] = {}
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                ends = await self._library.ends(places, committed_only=False)
            except Failure:
                ends = {}
            if ends and ends == before:
                return
            before = ends
            await asyncio.sleep(1.0)
        self.rest.stuck.append(f"sources still write after {LIMIT_S:.0f} s")

    async def until_read(self) -> None:
        """Groups have committed the ends of what they read."""

        async def lacking() -> str:
            for group, topic in self._read_by_groups().items():
                ends = await self._library.ends(self._places(topic), committed_only=True)
                committed = await self._library.committed(group, self._places(topic))
                left = {at: end - committed.get(at, 0) for at, end in ends.items() if committed.get(at, 0) < end}
                if left:
                    state, members = await self._library.group(group)
                    (at, count), *_ = left.items()
                    where = f"{at.topic}-{at.partition}"
                    return f"group {group} ({state}, {members} members) is {count} records behind in {where}"
            return ""

        self.rest.groups_s = await self._until("groups", lacking)

    async def until_settled(self) -> None:
        """No transaction holds the last stable offset back."""

        async def lacking() -> str:
            places = self._all()
            for one in await self._library.partitions(await self._internal()):
                if one.at.topic == "__consumer_offsets":
                    places.append(one.at)
            stable = await self._library.ends(places, committed_only=True)
            ends = await self._library.ends(places, committed_only=False)
            held = [at for at in places if stable[at] < ends[at]]
            if not held:
                return ""
            at = held[0]
            return f"a transaction is open in {at.topic}-{at.partition}: last stable {stable[at]}, end {ends[at]}"

        self.rest.transactions_s = await self._until("transactions", lacking)

    async def _until(self, what: str, lacking: Callable[[], Awaitable[str]]) -> float | None:
        """How long it took, from the beginning on; None, and stuck, when it takes too long."""
        until = time.monotonic() + LIMIT_S
        while True:
            try:
                lack = await lacking()
            except Failure as error:
                lack = f"no answer: {error}"
            now = time.monotonic()
            if not lack:
                return now - self._since
            if now > until:
                self.rest.stuck.append(f"{what}, after {LIMIT_S:.0f} s: {lack}")
                return None
            await asyncio.sleep(0.2)

    def _read_by_groups(self) -> dict[str, str]:
        return {
            f"{self._prefix}{group}": f"{self._prefix}{topic}"
            for one in self._workloads
            for group, topic in one.groups.items()
        }

    async def _internal(self) -> list[str]:
        return [name for name in ("__consumer_offsets", "__transaction_state") if await self._exists(name)]

    async def _exists(self, name: str) -> bool:
        try:
            return bool(await self._library.partitions([name]))
        except Failure:
            return False

    # -- the last reads

    async def read(self) -> None:
        """Everything, as each isolation level shows it, with ends and offsets, into the history."""
        transactional = {f"{self._prefix}{name}" for one in self._workloads for name in one.transactional}
        reads = [(topic.name, False) for topic in self._topics] + [(name, True) for name in sorted(transactional)]

        async def one(topic: str, committed: bool) -> None:
            try:
                await self._read_topic(topic, committed=committed, transactional=topic in transactional)
            except Failure as error:
                self.rest.stuck.append(f"{topic} cannot be read to its end: {error}")

        await asyncio.gather(*(one(*each) for each in reads))
        for group, topic_name in self._read_by_groups().items():
            since = now_ns()
            try:
                offsets = await self._library.committed(group, self._places(topic_name))
            except Failure as error:
                self.rest.stuck.append(f"the offsets of {group} cannot be read: {error}")
                continue
            self._recorder.add(
                OffsetFetch(
                    process="final",
                    invoked_ns=since,
                    completed_ns=now_ns(),
                    outcome=Outcome.OK,
                    group=group,
                    offsets=tuple(Offset(*at, offset) for at, offset in offsets.items()),
                    final=True,
                )
            )

    async def _read_topic(self, topic: str, *, committed: bool, transactional: bool) -> None:
        places = self._places(topic)
        log = Log(self._recorder, f"final-{'committed' if committed else 'all'}-{topic}")
        log.takes(places)
        since = now_ns()
        ends = await self._library.ends(places, committed_only=committed)
        told = now_ns()
        records = await table.read_all(
            self._library, places, committed_only=committed, transactional=transactional, limit_s=READ_S
        )
        seen = {f"{self._prefix}{bank.TOPIC}": bank.seen, f"{self._prefix}{copying.COPY}": copying.seen}.get(topic)
        log.polled(since, map(seen, records) if seen else plain(records), committed=committed)
        self._recorder.add(
            EndOffsets(
                process=log.process,
                invoked_ns=since,
                completed_ns=told,
                outcome=Outcome.OK,
                offsets=tuple(Offset(*at, end) for at, end in ends.items()),
                committed=committed,
                final=True,
            )
        )
        if topic == f"{self._prefix}{table.TOPIC}":
            log.snapshot(since, topic, table.table(records))
        if topic == f"{self._prefix}{bank.TOPIC}" and committed:
            log.snapshot(since, topic, bank.balances(records))
