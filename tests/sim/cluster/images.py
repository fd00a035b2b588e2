"""Images of the metadata: the same on every node at the same offset, and never self-contradictory."""

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ottla.controller.image import NO_LEADER, MetadataImage, PartitionImage, TopicImage
from ottla.controller.snapshot import snapshot_records
from ottla.core.types import NodeId, Uuid
from tests.sim.cluster.setting import Setting
from tests.sim.raft.violation import Violation

if TYPE_CHECKING:
    from tests.sim.cluster.host import Process

COMPARED_EVERY: Final = 4
"""One offset of so many: comparing all of them would take a third of a run."""


class Images:
    """Of all nodes and all times."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.newest = MetadataImage()
        self.controller: tuple[NodeId, int] | None = None
        self._producer_ids: set[int] = set()
        self._incarnations: dict[Uuid, int] = {}  # and under which broker epoch each was registered last
        self._digests: dict[int, bytes] = {}
        self._last: dict[tuple[NodeId, int], MetadataImage] = {}  # by node and life

    def look(self, process: "Process") -> None:
        """After a callback of the node."""
        controller = process.controller
        image = controller.image
        if controller.is_active and self.controller != (process.host.node, process.host.lives):
            if self.controller is not None:
                self.setting.coverage.note("active controller changed")
            self.controller = (process.host.node, process.host.lives)
        key = (process.host.node, process.life)
        last = self._last.get(key)
        if image is last:
            return
        self._last[key] = image
        if last is not None and image.offset < last.offset:
            raise Violation("images grow", f"node {process.host.node} went from {last.offset} to {image.offset}")
        if hasattr(process, "broker") and process.broker.life is not None and process.broker.life.resigning:
            self.setting.coverage.note("broker resigned")
        if image.offset % COMPARED_EVERY == 0:
            self.compare(process)
        if image.offset > self.newest.offset:
            before, self.newest = self.newest, image
            self._changed(before, image)

    def producer_id_given(self, producer_id: int) -> None:
        """To a client; nobody else ever gets it."""
        if producer_id in self._producer_ids:
            raise Violation("producer ids are unique", f"{producer_id} is given out twice")
        self._producer_ids.add(producer_id)

    def compare(self, process: "Process") -> None:
        """This node's image with those of others at the same offset."""
        image = process.controller.image
        digest = blake2b(digest_size=16)
        for text in sorted(record.SerializeToString(deterministic=True) for record in snapshot_records(image)):
            digest.update(text)
        if self._digests.setdefault(image.offset, digest.digest()) != digest.digest():
            raise Violation("equal images", f"node {process.host.node} has another image at {image.offset} than others")

    def _changed(self, before: MetadataImage, after: MetadataImage) -> None:
        for name, topic in after.topics.items():
            old = before.topics.get(name)
            if old is not topic:
                self._topic_changed(topic, old if old is not None and old.id == topic.id else None, after)
        coverage = self.setting.coverage
        for broker in after.brokers.values():
            if self._incarnations.get(broker.incarnation_id, broker.epoch) != broker.epoch:
                coverage.note("registered again")
            self._incarnations[broker.incarnation_id] = broker.epoch
            known = before.brokers.get(broker.id)
            if known is not None and broker.fenced and not known.fenced and known.epoch == broker.epoch:
                coverage.note("broker fenced")
                self.setting.trace("fenced", "image", broker.id)

    def _topic_changed(self, topic: TopicImage, old: TopicImage | None, image: MetadataImage) -> None:
        for partition in topic.partitions:
            known = (
                old.partitions[partition.index] if old is not None and partition.index < len(old.partitions) else None
            )
            if known is partition:
                continue
            where = f"{topic.name}-{partition.index} at {image.offset}"
            self.setting.checker.replicas.changed((topic.id, partition.index), (*partition.isr, *partition.elr))
            for node in set(partition.isr) - set(known.isr if known is not None else partition.isr):
                self.setting.checker.replicas.joined((topic.id, partition.index), node, where)
            self._judge(where, partition, known, image)
            self.setting.trace(
                "partition", "image", where, f"leader {partition.leader} epoch {partition.leader_epoch} "
                f"isr {partition.isr} elr {partition.elr} of {partition.replicas}",
            )  # fmt: skip

    def _judge(self, where: str, now: PartitionImage, known: PartitionImage | None, image: MetadataImage) -> None:
        if not set(now.isr) <= set(now.replicas) or not now.isr:
            raise Violation("ISR within replicas", f"{where}: {now.isr} of {now.replicas}")
        if now.leader != NO_LEADER:
            broker = image.brokers.get(now.leader)
            if now.leader not in now.isr:
                raise Violation("leader in sync", f"{where}: {now.leader} leads, in sync are {now.isr}")
            if broker is None or broker.fenced:
                raise Violation("leader not fenced", f"{where}: {now.leader} leads, which is {broker}")
        if known is None:
            return
        coverage = self.setting.coverage
        if now.leader_epoch < known.leader_epoch or now.partition_epoch < known.partition_epoch:
            raise Violation("epochs grow", f"{where}: from {known} to {now}")
        if now.leader != known.leader:
            if now.leader_epoch == known.leader_epoch:
                raise Violation("one leader an epoch", f"{where}: from {known} to {now}")
            coverage.note("leader elected")
        if set(known.isr) - set(now.isr):
            coverage.note("ISR shrunk")
        if set(now.isr) - set(known.isr):
            coverage.note("ISR grown")
        if now.elr:
            coverage.note("ELR used")
        if now.is_reassigning and not known.is_reassigning:
            coverage.note("replica moved")
        if known.is_reassigning and not now.is_reassigning and set(known.target_replicas) == set(now.replicas):
            coverage.note("reassignment completed")
