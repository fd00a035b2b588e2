"""All transactional clients of one run: workers that take from the main topic what they write to another one, readers
of that, and at the end the judgement.
"""

from collections.abc import Callable, Sequence
from functools import partial

from ottla.controller.image import NO_LEADER
from ottla.coordinators.groups.service import CONSUMER_OFFSETS
from ottla.coordinators.partitioning import coordinator_partition
from ottla.coordinators.transactions.service import TRANSACTION_STATE
from ottla.core.types import NodeId
from tests.sim.cluster.calls import Calls, Unanswered, Unreached
from tests.sim.cluster.checker import Checker
from tests.sim.cluster.clients import Client
from tests.sim.cluster.host import Host
from tests.sim.cluster.transactions.history import History, Partition, Seen
from tests.sim.cluster.transactions.judge import judge
from tests.sim.cluster.transactions.line import Line
from tests.sim.cluster.transactions.member import Member
from tests.sim.cluster.transactions.reader import Reader, read_committed
from tests.sim.cluster.transactions.worker import GROUP, OUTPUT, OUTPUT_PARTITIONS, Step, Worker
from tests.sim.raft.violation import Violation


class Workload:
    """`topic` and `partitions`: of the input. `step`: see `Worker`."""

    def __init__(
        self, calls: Calls, hosts: Sequence[Host], checker: Checker, *, topic: str, partitions: int, step: Step
    ) -> None:
        self.calls, self.hosts, self.checker = calls, hosts, checker
        self.topic, self.partitions = topic, partitions
        self.history = History()
        setting = checker.setting
        self.workers = [
            Worker(
                f"w{n}", calls, hosts, checker, setting.random(f"w{n}"),
                history=self.history, topic=topic, partitions=partitions, step=step, line=self._line,
            )
            for n in range(1, setting.options.workers + 1)
        ]  # fmt: skip
        self.readers = [
            Reader(f"r{n}", calls, hosts, checker, setting.random(f"r{n}"), history=self.history, partition=(OUTPUT, n))
            for n in range(OUTPUT_PARTITIONS)
        ]

    def _line(self, name: str) -> Line:
        return Line(name, self.calls, self.hosts, self.checker, self.checker.setting.random(name))

    @property
    def clients(self) -> list[Client]:
        return [*self.workers, *self.readers]

    def can_spare(self, worker: Worker) -> bool:
        """Whether another one is left when it goes for good: its transaction, if it has one, ends by its timeout."""
        return any(not other.stopped for other in self.workers if other is not worker)

    # -- conditions of progress

    @property
    def is_settled(self) -> bool:
        """One generation of all that live, which share all partitions; and nothing is left for them to do.

        A zombie that has nothing to do does not notice what it is.
        """
        lives = [instance for worker in self.workers for instance in worker.lives]
        if any(worker.instance not in worker.lives for worker in self.workers if not worker.stopped):
            return False
        if len({one.member.generation for one in lives}) != 1 or lives[0].member.generation < 0:
            return False
        if sorted(index for one in lives for index in one.member.assigned) != list(range(self.partitions)):
            return False
        positions: dict[int, int] = {}
        for one in lives:
            positions |= one.positions or {}
        return all(positions.get(index, 0) >= self._end_of(index) for index in range(self.partitions))

    def _end_of(self, index: int) -> int:
        topic = self.checker.topic(self.topic)
        assert topic is not None
        leader = topic.partitions[index].leader
        if leader == NO_LEADER:
            return 1 << 62
        replica = self.checker.replicas.replica(leader, (topic.id, index))
        return replica.high_watermark if replica is not None else 1 << 62

    @property
    def has_ended(self) -> bool:
        """No worker lives, and no transaction is open anywhere."""
        if any(worker.lives for worker in self.workers):
            return False
        for host in self.hosts:
            if host.process is None or not host.process.serving:
                return False
            if any(one.last_stable_offset != one.high_watermark for one in host.process.logs):
                return False
        return True

    def describe(self) -> str:
        """What there is to see of workers and open transactions."""
        lines = []
        for worker in self.workers:
            for one in worker.lives:
                member = one.member
                lines.append(
                    f"{one.name}: generation {member.generation} of {member.member_id} has {member.assigned} at "
                    f"{one.positions}, producer {one.producer.producer_id} epoch {one.producer.epoch}"
                )
        for host in self.hosts:
            if host.process is not None and hasattr(host.process, "logs"):
                lines += [
                    f"node {host.node}: {one.name} is stable to {one.last_stable_offset} of {one.high_watermark}"
                    for one in host.process.logs
                    if one.last_stable_offset != one.high_watermark
                ]
        return "\n".join(lines)

    # -- the end

    def judge(self) -> None:
        """When nothing happens any more. Raises Violation."""
        history, calls = self.history, self.calls
        for index in range(self.partitions):
            history.inputs[index] = [record.offset for record in calls.loop.complete(self._all((self.topic, index)))]
        for index in range(OUTPUT_PARTITIONS):
            history.outputs[OUTPUT, index] = calls.loop.complete(self._all((OUTPUT, index)))
        history.offsets = calls.loop.complete(self._offsets())
        judge(history)

    async def _all(self, place: Partition) -> list[Seen]:
        """Its committed records."""
        reader = self._line(f"end {place}")
        records: list[Seen] = []
        position, end_s = 0, self._end_s
        while True:
            known = await reader.partition(*place)
            found = None
            if known is not None and known[1].leader != NO_LEADER:
                topic_id, state = known
                try:
                    found = await read_committed(
                        reader, self.hosts[state.leader - 1], topic_id, place[1], position,
                        epoch=state.leader_epoch, rack=None,
                    )  # fmt: skip
                except (Unanswered, Unreached):
                    found = None
            if found is None:
                if self.checker.setting.world.now_s > end_s:
                    raise self.checker.fail(Violation("readable in order", f"nothing at {position} of {place}"))
                reader.forget()
                await reader.pause(0.02)
                continue
            if found[0] == position:
                return records
            position = found[0]
            records += found[1]

    async def _offsets(self) -> dict[int, int]:
        line = self._line("end of the group")
        member = Member(line, self.history, group=GROUP, topic=self.topic, partitions=self.partitions)
        end_s = self._end_s
        while (offsets := await member.committed(tuple(range(self.partitions)))) is None:
            if self.checker.setting.world.now_s > end_s:
                raise self.checker.fail(Violation("progress after healing", "nobody tells the group's offsets"))
            await line.pause(0.05)
        return offsets

    @property
    def _end_s(self) -> float:
        return self.checker.setting.world.now_s + 60.0


def leader(checker: Checker, topic: str, index: int | None = None, *, key: str = "") -> NodeId | None:
    """Of a partition, as last committed; without `index` of the one that coordinates `key`."""
    found = checker.topic(topic)
    if found is None:
        return None
    index = coordinator_partition(key, len(found.partitions)) if index is None else index
    node = found.partitions[index].leader
    return node if node != NO_LEADER else None


def supports(checker: Checker, transactional_id: str) -> list[Callable[[], NodeId | None]]:
    """Whoever a transaction rests on: its coordinator, its group's, and the leaders of what it writes to."""
    return [
        lambda: leader(checker, TRANSACTION_STATE, key=transactional_id),
        lambda: leader(checker, CONSUMER_OFFSETS, key=GROUP),
        *(partial(leader, checker, OUTPUT, index) for index in range(OUTPUT_PARTITIONS)),
    ]
