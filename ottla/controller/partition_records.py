"""Partitions as records: of a whole one, of what changes of one, and of the same change of many.

A change is the difference of two images of a partition. Its replay sets what it names and raises the epochs, so that
no node has to decide anything again.
"""

from collections.abc import Callable, Iterable
from typing import Final

from ottla.controller.image import LeaderRecovery, PartitionImage, TopicImage
from ottla.core.types import NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb

Nodes = tuple[NodeId, ...]
Change = tuple[NodeId | None, Nodes | None, Nodes | None, Nodes | None, Nodes | None, Nodes | None, Nodes | None, int]
"""Leader, ISR, replicas, ELR, last known ELR, adding, removing, recovery state; None and -1: unchanged."""

UNCHANGED: Final[Change] = (None, None, None, None, None, None, None, -1)


def partition_record(topic_id: Uuid, partition: PartitionImage) -> pb.MetadataRecord:
    """The whole partition as it is."""
    return pb.MetadataRecord(
        partition=pb.PartitionRecord(
            topic_id=topic_id,
            partition=partition.index,
            leader=partition.leader,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            replicas=partition.replicas,
            isr=partition.isr,
            elr=partition.elr,
            last_known_elr=partition.last_known_elr,
            adding=partition.adding,
            removing=partition.removing,
            leader_recovery_state=partition.recovery,
        )
    )


def partition_of(record: pb.PartitionRecord, nodes: Callable[[Iterable[int]], Nodes]) -> PartitionImage:
    """The reverse. `nodes` makes one tuple for each set of replicas, as thousands of partitions share a few."""
    return PartitionImage(
        record.partition,
        NodeId(record.leader),
        record.leader_epoch,
        nodes(record.replicas),
        nodes(record.isr),
        record.partition_epoch,
        nodes(record.elr),
        nodes(record.last_known_elr),
        nodes(record.adding),
        nodes(record.removing),
        LeaderRecovery(record.leader_recovery_state),
    )


def difference(before: PartitionImage, after: PartitionImage, *, renew: bool = False) -> Change:
    """What leads from the one to the other. `renew`: the leader epoch rises even when the leader stays."""

    def changed(old: Nodes, new: Nodes) -> Nodes | None:
        return None if new == old else new

    return (
        after.leader if renew or after.leader != before.leader else None,
        changed(before.isr, after.isr),
        changed(before.replicas, after.replicas),
        changed(before.elr, after.elr),
        changed(before.last_known_elr, after.last_known_elr),
        changed(before.adding, after.adding),
        changed(before.removing, after.removing),
        -1 if after.recovery is before.recovery else after.recovery,
    )


def applied(before: PartitionImage, change: Change) -> PartitionImage:
    """The partition after the change: what its record's replay comes to."""
    leader, isr, replicas, elr, last_known_elr, adding, removing, recovery = change
    return PartitionImage(
        before.index,
        before.leader if leader is None else leader,
        before.leader_epoch if leader is None else before.leader_epoch + 1,
        before.replicas if replicas is None else replicas,
        before.isr if isr is None else isr,
        before.partition_epoch + 1,
        before.elr if elr is None else elr,
        before.last_known_elr if last_known_elr is None else last_known_elr,
        before.adding if adding is None else adding,
        before.removing if removing is None else removing,
        before.recovery if recovery < 0 else LeaderRecovery(recovery),
    )


def change_of(record: pb.PartitionChangeRecord, nodes: Callable[[Iterable[int]], Nodes]) -> Change:
    """What a record says."""

    def optional(name: str, value: pb.NodeIds) -> Nodes | None:
        return nodes(value.ids) if record.HasField(name) else None  # type: ignore[arg-type]

    return (
        NodeId(record.leader) if record.HasField("leader") else None,
        nodes(record.isr) or None,
        nodes(record.replicas) or None,
        optional("elr", record.elr),
        optional("last_known_elr", record.last_known_elr),
        optional("adding", record.adding),
        optional("removing", record.removing),
        record.leader_recovery_state if record.HasField("leader_recovery_state") else -1,
    )


def _change_record(change: Change, topic_id: Uuid | None = None, partition: int = 0) -> pb.PartitionChangeRecord:
    leader, isr, replicas, elr, last_known_elr, adding, removing, recovery = change

    def optional(ids: Nodes | None) -> pb.NodeIds | None:
        return None if ids is None else pb.NodeIds(ids=ids)

    return pb.PartitionChangeRecord(
        topic_id=topic_id or b"",
        partition=partition,
        leader=leader,
        isr=isr or (),
        replicas=replicas or (),
        elr=optional(elr),
        last_known_elr=optional(last_known_elr),
        adding=optional(adding),
        removing=optional(removing),
        leader_recovery_state=None if recovery < 0 else recovery,
    )


class PartitionChanges:
    """Changes of partitions on the way to records: those that are alike become one.

    A fence in a cluster of three with ten thousand partitions is a handful of records of a few bytes a partition.
    """

    def __init__(self) -> None:
        self._groups: dict[Change, dict[Uuid, list[int]]] = {}

    def add(self, topic: TopicImage, index: int, change: Change) -> None:
        """One partition changes; each at most once."""
        if change != UNCHANGED:
            self.group(change).setdefault(topic.id, []).append(index)

    def group(self, change: Change) -> dict[Uuid, list[int]]:
        """The partitions with this change so far, by topic: for callers that add many."""
        return self._groups.setdefault(change, {})

    def __bool__(self) -> bool:
        return bool(self._groups)

    def records(self) -> list[pb.MetadataRecord]:
        """In the order in which each kind of change came first."""
        return [self._record(change, topics) for change, topics in self._groups.items()]

    def _record(self, change: Change, topics: dict[Uuid, list[int]]) -> pb.MetadataRecord:
        if len(topics) == 1:
            ((topic_id, partitions),) = topics.items()
            if len(partitions) == 1:
                return pb.MetadataRecord(partition_change=_change_record(change, topic_id, partitions[0]))
        return pb.MetadataRecord(
            partition_changes=pb.PartitionChangesRecord(
                change=_change_record(change),
                topics=[
                    pb.PartitionsOfTopic(topic_id=topic_id, partitions=partitions)
                    for topic_id, partitions in topics.items()
                ],
            )
        )
