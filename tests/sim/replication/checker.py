"""What must hold after every step, and what a client may rely on.

- one leader for each partition and epoch, and no process leads in an epoch that an earlier one led in
- what was committed anywhere is the same everywhere, below every replica's high watermark
- nobody's high watermark passes that of the leaders; a leader's never falls, and once a new leader shows it, it is not
  below what earlier epochs showed
- an acknowledged record is durable on every living member of the ISR and on `min.insync.replicas` replicas at least;
  whoever starts as a member of the ISR has it
- what a partition remembers of producers is in its log
"""

from typing import TYPE_CHECKING

from ottla.core.types import NodeId
from ottla.partitions.partition import Partition
from ottla.partitions.replication.leading import Leading
from ottla.partitions.replication.types import PartitionId
from ottla.partitions.results import State
from ottla.testing.sim.loop import SimLoop
from tests.sim.replication.contents import Contents, Held

if TYPE_CHECKING:
    from tests.sim.replication.cluster import Cluster
    from tests.sim.replication.host import Process


class Violation(AssertionError):
    """The simulation convicts."""


class Seen:
    """What was checked of one replica in one life."""

    def __init__(self) -> None:
        self.log: object = None
        self.high_watermark = -1
        self.verified = 0  # entries of the log
        self.leader_epoch = -1
        self.ends = (-1, -1)


class Checker:
    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.leaders: dict[tuple[PartitionId, int], tuple[int, int]] = {}  # → node, life
        self.truth: dict[PartitionId, dict[int, Held]] = {}
        self.committed_end: dict[PartitionId, int] = {}
        self.shown: dict[PartitionId, dict[int, int]] = {}  # epoch → highest that its leader showed
        self.acknowledged: dict[PartitionId, list[Held]] = {}
        self.checks = 0
        self.disk_was_lost = False  # then what a replica has is not what it rightly told that it had
        self.begun: dict[PartitionId, int] = {}  # a mirror's log began there: all before is deleted, and says nothing
        self.contents = Contents()
        self._members: dict[PartitionId, set[int]] = {}
        self._seen: dict[tuple[int, PartitionId], Seen] = {}
        self._processes: dict[SimLoop, Process] = {}

    # -- events

    def began(self, key: PartitionId, offset: int) -> None:
        """A leader is about to begin its log anew there, as its source has nothing before."""
        self.begun[key] = max(offset, self.begun.get(key, 0))

    def opened(self, process: "Process") -> None:
        self._processes[process.loop] = process
        node = process.host.node
        for key, partition in process.partitions.items():
            self._seen[node, key] = Seen()
            if partition.state is not State.ONLINE:
                raise Violation(f"node {node} finds {partition.name} damaged: {partition.error}")
            if node in self.cluster.controller.partitions[key].isr:
                self._has_all(node, partition, key, "starts as a member of the ISR")

    def ended(self, process: "Process") -> None:
        self._processes.pop(process.loop, None)
        for partition in process.partitions.values():
            self.contents.forget(partition)

    def acked(self, process: "Process", key: PartitionId, held: Held) -> None:
        """A client with acks=all got its answer."""
        cluster = self.cluster
        self.checks += 1
        self.acknowledged.setdefault(key, []).append(held)
        for host in cluster.hosts.values():
            running = host.process
            if running is None or key not in running.partitions:
                continue
            partition = running.partitions[key]
            durable = partition.log.durable_end_offset >= held.next_offset and self.contents.holds(partition, held)
            if not durable and host.node in cluster.controller.partitions[key].isr:
                raise Violation(
                    f"{held} of {partition.name} is acknowledged, and not durable on node {host.node} of the ISR, "
                    f"whose log is durable to {partition.log.durable_end_offset}"
                )
        leader = process.partitions[key]
        if leader.high_watermark < held.next_offset:
            raise Violation(f"{held} is acknowledged above the high watermark {leader.high_watermark}")

    def isr_changed(self) -> None:
        """The controller committed something: whoever is in an ISR now has all that is committed."""
        for key, state in self.cluster.controller.partitions.items():
            joined = set(state.isr) - self._members.get(key, set(state.isr))
            self._members[key] = set(state.isr)
            for node in joined:
                durable, committed = self._durable_end(node, key), self.committed_end.get(key, 0)
                if durable < committed and committed > self.begun.get(key, 0):
                    raise Violation(
                        f"node {node} joins the ISR of {key[1]} with a log to {durable}, committed is {committed}"
                    )

    def _durable_end(self, node: int, key: PartitionId) -> int:
        host = self.cluster.hosts[NodeId(node)]
        running = host.process
        if running is None or key not in running.partitions:
            return host.durable_ends.get(key, 0)
        return running.partitions[key].log.durable_end_offset

    def after_step(self, loop: SimLoop) -> None:
        process = self._processes.get(loop)
        if loop.failures:
            context = loop.failures[0]
            raise Violation(f"{loop.name}: {context.get('message')}") from context.get("exception")
        if process is None:
            return
        node = process.host.node
        for key, partition in process.partitions.items():
            seen = self._seen[node, key]
            log = partition.log
            ends = (log.log_end_offset, partition.high_watermark)
            if seen.log is log and seen.ends == ends and seen.leader_epoch == partition.leader_epoch:
                continue
            seen.ends = ends
            self._check(process, key, partition, seen)

    # -- inside

    def _check(self, process: "Process", key: PartitionId, partition: Partition, seen: Seen) -> None:
        node, log, high_watermark = process.host.node, partition.log, partition.high_watermark
        where = f"{partition.name} on node {node}"
        if partition.state is not State.ONLINE:
            raise Violation(f"{where} is offline: {partition.error}")
        if seen.log is not log:
            seen.log, seen.verified = log, 0
        if high_watermark < seen.high_watermark and seen.high_watermark > self.begun.get(key, 0):
            raise Violation(f"{where}: the high watermark falls from {seen.high_watermark} to {high_watermark}")
        seen.high_watermark = high_watermark
        if high_watermark > log.log_end_offset:
            raise Violation(f"{where}: the high watermark {high_watermark} is past the log end {log.log_end_offset}")
        role = partition.role
        if isinstance(role, Leading):
            self._check_leader(process, key, partition, role)
        elif high_watermark > self.committed_end.get(key, 0):
            raise Violation(f"{where} follows with a high watermark {high_watermark} that no leader had")
        seen.leader_epoch = partition.leader_epoch
        self._check_contents(where, key, partition, seen)
        for producer in partition.producers:
            if producer.batches and producer.batches[-1].last_offset >= log.log_end_offset:
                raise Violation(f"{where} remembers a batch of a producer that it does not have")

    def _check_leader(self, process: "Process", key: PartitionId, partition: Partition, role: Leading) -> None:
        epoch, high_watermark = partition.leader_epoch, partition.high_watermark
        me = (process.host.node, process.life)
        if self.leaders.setdefault((key, epoch), me) != me:
            raise Violation(f"{partition.name}: epoch {epoch} is led by {me} and by {self.leaders[key, epoch]}")
        if high_watermark > self.committed_end.get(key, 0):
            self.committed_end[key] = high_watermark
            holders = sum(self._durable_end(node, key) >= high_watermark for node in self.cluster.hosts)
            says = high_watermark > self.begun.get(key, 0)
            if says and holders < self.cluster.config.min_insync_replicas and not self.disk_was_lost:
                raise Violation(f"{partition.name} is committed to {high_watermark}, durable on {holders} replicas")
        shown = self.shown.setdefault(key, {})
        if role.latest_is_known:
            before = max((offset for e, offset in shown.items() if e < epoch), default=0)
            if high_watermark < before and before > self.begun.get(key, 0):
                raise Violation(
                    f"{partition.name}: the leader of epoch {epoch} shows {high_watermark}, an earlier one {before}"
                )
            shown[epoch] = max(shown.get(epoch, 0), high_watermark)

    def _check_contents(self, where: str, key: PartitionId, partition: Partition, seen: Seen) -> None:
        truth = self.truth.setdefault(key, {})
        batches = self.contents.of(partition).batches
        while seen.verified < len(batches) and batches[seen.verified].next_offset <= partition.high_watermark:
            held = batches[seen.verified]
            known = truth.setdefault(held.base_offset, held)
            if known != held:
                raise Violation(f"{where} has {held} where {known} was committed")
            seen.verified += 1

    def _has_all(self, node: int, partition: Partition, key: PartitionId, when: str) -> None:
        batches = {held.base_offset: held for held in self.contents.of(partition).batches}
        for held in self.acknowledged.get(key, []):
            if held.next_offset > partition.log_start_offset and batches.get(held.base_offset) != held:
                raise Violation(
                    f"node {node} {when} of {partition.name} without {held}, which was acknowledged; its log ends at "
                    f"{partition.log_end_offset}"
                )

    def at_the_end(self) -> None:
        """Everybody is there and in sync: all logs are the same, and hold all that was acknowledged."""
        for key in self.cluster.controller.partitions:
            logs = []
            for host in self.cluster.hosts.values():
                assert host.process is not None
                partition = host.process.partitions[key]
                self._has_all(host.node, partition, key, "is there in the end")
                start = partition.log_start_offset
                logs.append((partition.log.log_end_offset, start, self.contents.of(partition).batches))
            latest_start = max(start for _, start, _ in logs)
            tails = [[held for held in batches if held.base_offset >= latest_start] for _, _, batches in logs]
            if any(end != logs[0][0] for end, _, _ in logs) or any(tail != tails[0] for tail in tails):
                raise Violation(f"replicas of {key} differ in the end: {[end for end, _, _ in logs]}")
