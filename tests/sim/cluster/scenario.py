"""One run: a cluster with its clients, some seconds of faults, then time to recover, and the end's judgement."""

import gc
import warnings
from collections.abc import Callable
from time import process_time

import structlog

from ottla.controller.image import NO_LEADER, TopicImage
from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Member, Membership
from tests.sim.cluster.administrator import Administrator
from tests.sim.cluster.calls import Calls
from tests.sim.cluster.checker import Checker
from tests.sim.cluster.clients import Consumer, Producer
from tests.sim.cluster.host import Host, directory_id
from tests.sim.cluster.nemesis import MAIN_TOPIC, Nemesis
from tests.sim.cluster.options import Options
from tests.sim.cluster.setting import Setting
from tests.sim.cluster.transactions.judge import one_member_each
from tests.sim.cluster.transactions.worker import OUTPUT, OUTPUT_PARTITIONS
from tests.sim.cluster.transactions.workload import Workload
from tests.sim.raft.scenario import drop
from tests.sim.raft.violation import Violation
from tests.sim.raft.wire_codec import wire_codec
from tests.sim.report import Outcome

HEALS_WITHIN_S = 60.0
"""Of virtual time: to elect, to catch up, to finish what was begun."""


class Run:
    """The parts of one run, and its phases."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.options = options or Options.draw(Setting.generator(seed, "options"))
        setting = self.setting = Setting(seed, self.options, wire_codec() if self.options.wire else None)
        nodes = [NodeId(n) for n in range(1, self.options.nodes + 1)]
        voters = [Member(node, directory_id(node, 1)) for node in nodes]
        bootstrap = Membership(frozenset(voters), endpoints={m: f"sim:{m.node}" for m in voters})
        self.hosts = [Host(setting, node, setting.random(f"host {node}"), bootstrap) for node in nodes]
        self.checker = Checker(setting, {host.node: host for host in self.hosts})
        self.checker.logs.membership = bootstrap
        self.calls = Calls(setting)
        self.administrator = Administrator(self.calls, self.hosts, self.checker, setting.random("administrator"))
        self.nemesis = Nemesis(setting, self.hosts, self.administrator, self._use, setting.random("nemesis"))
        self._clients = 0
        self.producers = [
            self._producer(MAIN_TOPIC, n % self.options.partitions) for n in range(self.options.producers)
        ]
        self.consumers = [self._consumer(n) for n in range(self.options.partitions)]
        self.workload = self.nemesis.workload = Workload(
            self.calls,
            self.hosts,
            self.checker,
            topic=MAIN_TOPIC,
            partitions=self.options.partitions,
            step=self.nemesis.step,
        )
        self.transacts = self.options.workers > 0

    def _producer(self, topic: str, index: int) -> Producer:
        self._clients += 1
        name = f"p{self._clients}"
        return Producer(name, self.calls, self.hosts, self.checker, self.setting.random(name), topic=topic, index=index)

    def _consumer(self, index: int, topic: str = MAIN_TOPIC) -> Consumer:
        self._clients += 1
        name = f"c{self._clients}"
        return Consumer(name, self.calls, self.hosts, self.checker, self.setting.random(name), topic=topic, index=index)

    def _use(self, topic: str) -> Producer:
        """Somebody writes to a topic that comes and goes."""
        producer = self._producer(topic, 0)
        self.calls.loop.create_task(producer.run())
        return producer

    def go(self) -> None:
        """Raises Violation."""
        world, loop = self.setting.world, self.calls.loop
        for host in self.hosts:
            host.start()
        self._expect("nodes serve", lambda: all(host.serving is not None for host in self.hosts), within_s=20.0)
        self.administrator.begin(self._make_topic())
        self._expect("a topic is made", lambda: not self.administrator.busy, within_s=20.0)
        for client in (*self.producers, *self.consumers):
            loop.create_task(client.run())
        if self.transacts:
            for client in self.workload.clients:
                loop.create_task(client.run())
        self.nemesis.start()
        world.run_for(self.options.duration_s)
        self._heal()
        if self.options.ends_in_the_dark:
            self._cut_all_power()
        self._read_everything()

    async def _make_topic(self) -> None:
        while not await self.administrator.create(MAIN_TOPIC, self.options.partitions, 3):
            pass
        while self.transacts and not await self.administrator.create(OUTPUT, OUTPUT_PARTITIONS, 3):
            pass

    # -- the end

    def _heal(self) -> None:
        """After the last fault there is progress within a bounded time."""
        self.setting.trace("heals", "nemesis")
        self.nemesis.stop()
        self._expect("the administrator's work ends", lambda: not self.administrator.busy)
        self._expect("all nodes serve", self._all_serve)
        self._expect("all replicas are in sync", self._all_in_sync)
        done = [producer.acknowledged for producer in self.producers]
        self._expect(
            "batches are acknowledged again",
            lambda: all(p.acknowledged > before for p, before in zip(self.producers, done, strict=True)),
        )
        for client in (*self.producers, *self.consumers, *self.administrator.kept):
            client.stopped = True
        if self.transacts:
            self._end_transactions()
        self._expect("replicas agree", self._are_level)

    def _end_transactions(self) -> None:
        """Everything is processed by one settled group; then no transaction stays open."""
        one_member_each(self.workload.history.assigned)
        self._expect("everything is processed", lambda: self.workload.is_settled)
        for client in self.workload.clients:
            client.stopped = True
        self._expect("transactions end", lambda: self.workload.has_ended)

    def _cut_all_power(self) -> None:
        """What is judged is what the disks hold."""
        self.setting.trace("the end's power cut", "nemesis")
        for host in self.hosts:
            host.power_cut(silent=True)
            host.start()
        self._expect("all nodes serve again", self._all_serve)
        self._expect("all replicas are in sync again", self._all_in_sync)
        self._expect("replicas agree again", self._are_level)

    def _expect(self, what: str, condition: Callable[[], bool], *, within_s: float = HEALS_WITHIN_S) -> None:
        """Looked at every 20 ms."""
        world = self.setting.world
        end_s = world.now_s + within_s
        while not condition():
            if world.now_s >= end_s:
                raise Violation("progress after healing", f"not within {within_s} s: {what}; {self.describe()}")
            world.run_for(0.02)
            self.nemesis.supervise() if what != "nodes serve" and int(world.now_s * 50) % 50 == 0 else None

    def _all_serve(self) -> bool:
        brokers = self.checker.image.brokers
        return all(
            (process := host.serving) is not None
            and not process.stopping  # a restart that began before the last fault was taken back
            and (b := brokers.get(host.node)) is not None
            and b.is_active
            for host in self.hosts
        )

    def _all_in_sync(self) -> bool:
        return all(
            partition.leader != NO_LEADER
            and len(partition.isr) == len(partition.replicas)
            and not partition.is_reassigning
            for topic in self.checker.image.topics.values()
            for partition in topic.partitions
        )

    def _are_level(self) -> bool:
        image = self.checker.image
        for host in self.hosts:
            if host.serving is None or host.serving.controller.image.offset != image.offset:
                return False
        for topic in image.topics.values():
            for one in topic.partitions:
                replicas = [self.checker.replicas.replica(node, (topic.id, one.index)) for node in one.replicas]
                ends = {
                    (r.log.durable_end_offset, r.high_watermark, r.log_end_offset) for r in replicas if r is not None
                }
                if None in replicas or len(ends) != 1 or len(set(ends.pop())) != 1:
                    return False
        return True

    def _read_everything(self) -> None:
        """Every acknowledged batch is read once, in order, from every replica; and all images are the same."""
        for host in self.hosts:
            assert host.process is not None
            self.checker.images.compare(host.process)
        for topic in self.checker.image.topics.values():
            self._read_topic(topic)
        if self.transacts:
            self.workload.judge()

    def _read_topic(self, topic: TopicImage) -> None:
        for partition in topic.partitions:
            key = (topic.id, partition.index)
            for node in partition.replicas:
                replica = self.checker.replicas.replica(node, key)
                assert replica is not None
                self.checker.replicas.has_all(node, replica, self.checker.replicas.acks.get(key, []), "ends")
                reader = self._consumer(partition.index, topic.name)
                self.calls.loop.complete(self._read_to(reader, self.hosts[node - 1], topic.id, replica.high_watermark))

    async def _read_to(self, reader: Consumer, host: Host, topic_id: Uuid, end: int) -> None:
        """Leadership may still move, by a decision that a slow disk held up: it is asked again, for a bounded time."""
        asked_until_s = self.setting.world.now_s + HEALS_WITHIN_S
        while reader.position < end:
            partition = self.checker.image.topics[reader.topic_name].partitions[reader.index]
            if await reader.read_from(host, topic_id, partition.leader_epoch, rack=""):
                continue
            if self.setting.world.now_s >= asked_until_s:
                raise self.checker.fail(
                    Violation("readable in order", f"node {host.node} gives nothing at {reader.position} of {end}")
                )
            await reader.pause(0.02)

    def describe(self) -> str:
        """What there is to see of brokers and partitions."""
        image = self.checker.image
        lines = [f"broker {one.id} epoch {one.epoch} fenced {one.fenced}" for one in image.brokers.values()]
        for host in self.hosts:
            process = host.process
            lines.append(
                f"node {host.node}: "
                + (
                    "down"
                    if process is None
                    else f"serving {process.serving} raft {process.raft and process.raft.leader}"
                )
            )
        for topic in image.topics.values():
            for one in topic.partitions:
                lines.append(
                    f"{topic.name}-{one.index}: leader {one.leader} {one.leader_epoch} isr {one.isr} of {one.replicas}"
                )
                for node in one.replicas:
                    p = self.checker.replicas.replica(node, (topic.id, one.index))
                    if p is not None:
                        lines.append(
                            f"  node {node}: {type(p.role).__name__} epoch {p.leader_epoch} end {p.log_end_offset} "
                            f"durable {p.log.durable_end_offset} hw {p.high_watermark} {p.error or ''}"
                        )
        return "\n".join([*lines, self.workload.describe()])


def run_seed(seed: int, *, trace_lines: int = 0) -> Outcome:
    """Everything that happens is decided by the seed."""
    with warnings.catch_warnings():
        # Of processes that were killed in the very turn in which they began a task.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        return _run_seed(seed, trace_lines)


def _run_seed(seed: int, trace_lines: int) -> Outcome:
    started = process_time()
    structlog.configure(processors=[drop], cache_logger_on_first_use=False)
    violation = None
    try:
        run = Run(seed)
        try:
            run.go()
        except Violation as error:
            violation = error
    except Exception as error:
        error.add_note(f"with seed {seed}")
        raise
    finally:
        gc.collect()  # a world is full of cycles, and of buffers
    world = run.setting.world
    for host in run.hosts:
        for name, times in host.seen.items():
            run.setting.coverage.note(name, times)
    return Outcome(
        seed=seed,
        violation=violation,
        tail=run.setting.told.lines(trace_lines or 60) if violation or trace_lines else [],
        coverage=run.setting.coverage,
        events=world.events,
        simulated_s=world.now_s,
        cpu_s=process_time() - started,
        acknowledged=run.checker.replicas.count,
        options=run.options,
    )
