"""Replicas of partitions: who leads, what is committed, what is durable. See `tests.sim.replication.checker`.

- one process leads in an epoch; what was committed anywhere is the same everywhere below every high watermark
- nobody's high watermark falls, nor passes what leaders have shown; a new leader that shows one shows no less than its
  predecessors
- no leader's last stable offset is below what one before it has shown, nor does one pass a transaction that has no
  marker below the high watermark
- an acknowledged batch is durable on every member of the ISR, and stays on whoever is or was one
- no batch of an idempotent producer is committed twice
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from ottla.core.types import NodeId
from ottla.partitions.partition import Partition
from ottla.partitions.replication.leading import Leading
from ottla.partitions.replication.types import PartitionId
from ottla.partitions.results import State
from tests.sim.cluster.transactions.ends import ends_in
from tests.sim.raft.violation import Violation
from tests.sim.replication.contents import Contents, Held

if TYPE_CHECKING:
    from tests.sim.cluster.checker import Checker
    from tests.sim.cluster.host import Process


class Seen:
    """What was checked of one replica in one life."""

    __slots__ = ("ends", "high_watermark", "led", "log", "open", "proposed", "verified")

    def __init__(self) -> None:
        self.log: object = None
        self.led = False
        self.high_watermark = -1
        self.verified = 0  # entries of the log
        self.open: dict[int, int] = {}  # by producer: where a transaction begins that has not ended in them
        self.ends: tuple[int, int, int, object] = (-1, -1, -1, None)
        self.proposed: object = None  # the latest other ISR that this leader asked for


class Replicas:
    """Of all nodes and all times."""

    def __init__(self, checker: "Checker") -> None:
        self.checker = checker
        self.truth: dict[PartitionId, dict[int, Held]] = {}
        self.acks: dict[PartitionId, list[Held]] = {}
        self.idempotent: set[int] = set()  # CRCs of batches that must be there at most once
        self.count = 0
        self.contents = Contents(ends_in)
        self.on_joining: Callable[[NodeId, NodeId], None] | None = None  # a leader asks for this one to be in sync
        self._leaders: dict[tuple[PartitionId, int], tuple[int, int]] = {}  # → node, life
        self._committed_end: dict[PartitionId, int] = {}
        self._shown: dict[PartitionId, dict[int, int]] = {}  # epoch → highest that its leader showed
        self._stable: dict[PartitionId, dict[int, int]] = {}  # epoch → the last stable offset that its leader showed
        self._offsets: dict[tuple[PartitionId, int], int] = {}  # by CRC: where it is committed
        self._seen: dict[tuple[int, int], dict[Partition, Seen]] = {}  # by node and life
        self._owed: dict[tuple[int, int], dict[PartitionId, int]] = {}  # how many acknowledged ones it must have

    # -- nodes come and go

    def opened(self, process: "Process") -> None:
        node = process.host.node
        image = self.checker.image
        self._seen[node, process.life] = {}
        self._owed[node, process.life] = {
            (topic.id, one.index): len(self.acks.get((topic.id, one.index), ()))
            for topic in image.topics.values()
            for one in topic.partitions
            if node in one.isr or node in one.elr
        }

    def ended(self, process: "Process") -> None:
        self._seen.pop((process.host.node, process.life), None)
        self._owed.pop((process.host.node, process.life), None)
        process.host.durable_ends.update(
            {(p.topic_id, p.index): p.log.durable_end_offset for p in process.logs if not _is_unread(p)}
        )
        for partition in process.logs:
            self.contents.forget(partition)

    def changed(self, key: PartitionId, counted: Collection[NodeId]) -> None:
        """Who is not `counted` on any more (in the ISR or the ELR) owes nothing.

        Nor does it with a replica of its own: that may have been removed and made anew between two images seen here.
        """
        for (node, _), owed in self._owed.items():
            if node not in counted:
                owed.pop(key, None)

    def joined(self, key: PartitionId, node: NodeId, where: str) -> None:
        """A replica is in the ISR from now on: it has all that is committed."""
        end, committed = self._durable_end(node, key), self._committed_end.get(key, 0)
        if end < committed:
            raise Violation("who joins has it all", f"{where}: node {node} joins with a log to {end} of {committed}")

    # -- after each step

    def look(self, process: "Process") -> None:
        seen_by = self._seen[process.host.node, process.life]
        for partition in process.logs:
            log = partition.log
            seen = seen_by.get(partition)
            if seen is None:
                seen = seen_by[partition] = Seen()
                self._found(process, partition)
            role = partition.role
            if isinstance(role, Leading) and role.state.pending is not seen.proposed:
                self._proposes(process.host.node, role, seen)
            ends = (log.log_end_offset, partition.high_watermark, partition.leader_epoch, partition.role)
            if seen.log is log and seen.ends == ends:
                continue
            led, seen.ends, seen.led = seen.led, ends, partition.is_leader
            if led and not partition.is_leader:  # in the very turn in which its high watermark moved, perhaps
                self._may_have_led(partition)
            self._check(process, partition, seen)
        if len(seen_by) > len(process.logs):
            for partition in [p for p in seen_by if process.logs.get(p.topic, p.index) is not p]:
                del seen_by[partition]
                self._removed(process, partition)

    def _proposes(self, node: NodeId, role: Leading, seen: Seen) -> None:
        pending = seen.proposed = role.state.pending
        if pending is not None and self.on_joining is not None:
            for joining, _ in pending.isr:
                if joining not in role.state.isr:
                    self.on_joining(node, joining)

    def _removed(self, process: "Process", partition: Partition) -> None:
        process.host.durable_ends.pop((partition.topic_id, partition.index), None)
        self.contents.forget(partition)
        if isinstance(partition.role, Leading):
            self._may_have_led(partition)

    def _may_have_led(self, partition: Partition) -> None:
        key = (partition.topic_id, partition.index)
        self._committed_end[key] = max(partition.high_watermark, self._committed_end.get(key, 0))

    def _found(self, process: "Process", partition: Partition) -> None:
        """What a start found, or an empty new replica."""
        key = (partition.topic_id, partition.index)
        owed = 0 if partition.name in process.host.damaged else self._owed[process.host.node, process.life].get(key, 0)
        if partition.error is None:
            self.has_all(process.host.node, partition, self.acks.get(key, [])[:owed], "starts as a member of the ISR")
            state = self.checker.partition(key)
            if state is not None and state.replicas == (process.host.node,):  # what the only one's files hold
                self._may_have_led(partition)

    def _check(self, process: "Process", partition: Partition, seen: Seen) -> None:
        node, log, high_watermark = process.host.node, partition.log, partition.high_watermark
        key = (partition.topic_id, partition.index)
        where = f"{partition.name} on node {node}"
        if partition.state is not State.ONLINE:
            if not any(process.host.seen[fault] for fault in ("EIO", "ENOSPC", "replica damaged")):
                raise Violation("nothing is damaged", f"{where} is offline: {partition.error}")
            return
        if seen.log is not log:
            if seen.log is not None:
                self.checker.setting.coverage.note("log cut")
            seen.log, seen.verified, seen.open = log, 0, {}
        if high_watermark < seen.high_watermark:
            raise Violation("high watermark stays", f"{where}: from {seen.high_watermark} to {high_watermark}")
        seen.high_watermark = high_watermark
        if high_watermark > log.log_end_offset:
            raise Violation("high watermark in the log", f"{where}: {high_watermark} of {log.log_end_offset}")
        if isinstance(partition.role, Leading):
            self._check_leader(process, key, partition, partition.role)
        elif partition.role is None and partition.is_leader:  # the only replica
            self._committed_end[key] = max(high_watermark, self._committed_end.get(key, 0))
        elif high_watermark > self._committed_end.get(key, 0):
            raise Violation("high watermark of a leader", f"{where} follows with {high_watermark}, which no leader had")
        self._check_contents(where, key, partition, seen)
        for producer in partition.producers:
            if producer.batches and producer.batches[-1].last_offset >= log.log_end_offset:
                raise Violation("producers are in the log", f"{where} remembers a batch that it does not have")

    def _check_leader(self, process: "Process", key: PartitionId, partition: Partition, role: Leading) -> None:
        epoch, high_watermark = partition.leader_epoch, partition.high_watermark
        me = (process.host.node, process.life)
        if self._leaders.setdefault((key, epoch), me) != me:
            raise Violation(
                "one leader an epoch", f"{partition.name}: {me} and {self._leaders[key, epoch]} lead in {epoch}"
            )
        if high_watermark > self._committed_end.get(key, 0):
            self._committed_end[key] = high_watermark
            holders = sum(self._durable_end(node, key) >= high_watermark for node in self.checker.hosts)
            least = min(partition.config.min_insync_replicas, len(role.state.replicas))
            state = self.checker.partition(key)  # others may know already that it is deleted, or has moved
            as_known = state is not None and set(role.state.replicas) <= set(state.replicas)
            if holders < least and as_known and not self.checker.disk_was_lost:
                raise Violation(
                    "committed on enough replicas", f"{partition.name} to {high_watermark} is durable on {holders}"
                )
        shown = self._shown.setdefault(key, {})
        if role.latest_is_known:
            before = max((offset for e, offset in shown.items() if e < epoch), default=0)
            if high_watermark < before:
                raise Violation(
                    "high watermark stays", f"{partition.name}: epoch {epoch} shows {high_watermark}, before {before}"
                )
            shown[epoch] = max(shown.get(epoch, 0), high_watermark)
            stable, stables = partition.last_stable_offset, self._stable.setdefault(key, {})
            before = max((offset for e, offset in stables.items() if e <= epoch), default=0)
            if stable < before:
                raise Violation(
                    "stable offset stays", f"{partition.name}: epoch {epoch} shows {stable}, before {before}"
                )
            stables[epoch] = stable

    def _check_contents(self, where: str, key: PartitionId, partition: Partition, seen: Seen) -> None:
        content = self.contents.of(partition)
        truth, batches = self.truth.setdefault(key, {}), content.batches
        while seen.verified < len(batches) and batches[seen.verified].next_offset <= partition.high_watermark:
            held = batches[seen.verified]
            known = truth.setdefault(held.base_offset, held)
            if known != held:
                raise Violation("replicas agree", f"{where} has {held} where {known} was committed")
            if held.crc in self.idempotent:
                other = self._offsets.setdefault((key, held.crc), held.base_offset)
                if other != held.base_offset:
                    raise Violation("no duplicates", f"{where} has a batch at {held.base_offset} and at {other}")
            self.checker.ends.committed(content.details[seen.verified])
            transaction = content.transactions[seen.verified]
            if transaction is not None and transaction.ends:
                seen.open.pop(transaction.producer_id, None)
            elif transaction is not None:
                seen.open.setdefault(transaction.producer_id, held.base_offset)
            seen.verified += 1
        stable, first_open = partition.last_stable_offset, min(seen.open.values(), default=partition.high_watermark)
        if stable > max(first_open, partition.log_start_offset):
            # After a start a replica may know less to be committed than was, and than its producers' states were saved
            # with: a marker that is committed ends its transaction.
            still_open = dict(seen.open)
            for held, transaction in zip(batches[seen.verified :], content.transactions[seen.verified :], strict=True):
                if transaction is not None and transaction.ends and held.next_offset <= self._committed_end.get(key, 0):
                    still_open.pop(transaction.producer_id, None)
            first_open = min(still_open.values(), default=stable)
        if stable > max(first_open, partition.log_start_offset):
            raise Violation(
                "stable means ended", f"{where} is stable to {stable}, and a transaction is open from {first_open} on"
            )

    # -- acknowledgements

    def acknowledged(self, process: "Process", partition: Partition, held: Held) -> None:
        key = (partition.topic_id, partition.index)
        self.count += 1
        self.checker.setting.coverage.note("acknowledged")
        if partition.high_watermark < held.next_offset:
            raise Violation("acknowledged means committed", f"{held} above {partition.high_watermark}")
        self.checker.images.look(process)  # it may rest on what this node has just applied
        state = self.checker.partition(key)
        if state is None:
            return
        self.acks.setdefault(key, []).append(held)
        for node in state.isr:
            self._holds(node, key, partition, held)

    def _holds(self, node: NodeId, key: PartitionId, partition: Partition, held: Held) -> None:
        found = self.replica(node, key)
        end = self._durable_end(node, key)
        if end < held.next_offset or (found is not None and not self.contents.holds(found, held)):
            raise Violation(
                "acknowledged means durable",
                f"{held} of {partition.name} is acknowledged, and not durable on node {node} of the ISR: its log is "
                f"durable to {end}",
            )

    def has_all(self, node: int, partition: Partition, wanted: list[Held], when: str) -> None:
        batches = {held.base_offset: held for held in self.contents.of(partition).batches}
        for held in wanted:
            if held.next_offset > partition.log_start_offset and batches.get(held.base_offset) != held:
                raise Violation(
                    "acknowledged stays",
                    f"node {node} {when} of {partition.name} without {held}; it ends at {partition.log_end_offset}",
                )

    def replica(self, node: int, key: PartitionId) -> Partition | None:
        process = self.checker.hosts[NodeId(node)].process
        topic = self.checker.image.topics_by_id.get(key[0])
        if process is None or topic is None or not hasattr(process, "broker"):
            return None
        found = process.logs.get(topic.name, key[1])
        return found if found is not None and found.topic_id == key[0] else None

    def _durable_end(self, node: NodeId, key: PartitionId) -> int:
        found = self.replica(node, key)
        if found is not None and not _is_unread(found):
            return found.log.durable_end_offset
        return self.checker.hosts[node].durable_ends.get(key, 0)


def _is_unread(partition: Partition) -> bool:
    """Its files could not be opened at this start: what they hold is as it was before."""
    return partition.error is not None and partition.log_end_offset == 0
