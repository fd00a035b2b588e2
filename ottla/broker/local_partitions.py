"""Keeps this node's partitions in step with the metadata image: creates, configures and removes them, and tells their
replicas who leads.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import structlog

from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import (
    NO_LEADER,
    LeaderRecovery,
    MetadataDelta,
    MetadataImage,
    PartitionImage,
    ResourceType,
    TopicImage,
)
from ottla.core.types import NodeId
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import DAMAGED_SUFFIX, PartitionManager, name_apart
from ottla.partitions.replication.manager import ReplicaManager
from ottla.partitions.replication.types import Assignment, Peer, Peers

logger: Final = structlog.get_logger(__name__)

_KEPT_CONFIGS: Final = 100


class LocalPartitions:
    """The partitions of which this node holds a replica.

    A topic that is created again before the files of its namesake are out of the way gets its partitions when they
    are; until then clients are told to try again.

    A replica whose files a start finds damaged is made anew from its leader, as soon as the metadata says that this is
    safe: others are in sync, and nobody counts on this one any more. Its files are set aside. Until then, and where it
    is the last, it stays offline. One that fails later stays offline until the node starts again, whatever it fails
    for: a leader may just have proposed it for what it told of its log under this registration (KIP-903). What readers
    found by then is noted in its directory, and known to that start, which reads no contents itself.
    """

    def __init__(
        self,
        node_id: NodeId,
        manager: PartitionManager,
        replicas: ReplicaManager,
        *,
        made_late: Callable[[], None] = lambda: None,
    ) -> None:
        """`made_late`: called when a replica was made that the metadata had here before."""
        self._node_id, self._made_late = node_id, made_late
        self._manager, self._replicas = manager, replicas
        self._topics: dict[str, TopicImage] = {}
        self._removing: set[tuple[str, int]] = set()
        self._configs: EffectiveConfigs | None = None
        self._log_configs: dict[tuple[tuple[str, str], ...], LogConfig] = {}  # most topics have the same

    def open(self, image: MetadataImage, configs: EffectiveConfigs) -> None:
        """All of them. Recovery reads files: only at start."""
        self._configs = configs
        assignments: list[Assignment] = []
        for topic in image.topics.values():
            assignments += self._create(topic, None, configs)
        self._replicas.follow(assignments, _peers(image))

    def follow(self, image: MetadataImage, delta: MetadataDelta, configs: EffectiveConfigs) -> None:
        """What one committed batch changed."""
        self._configs = configs
        assignments: list[Assignment] = []
        for before, after in delta.topics.values():
            same = before if before is not None and after is not None and before.id == after.id else None
            if before is not None and same is None:
                del self._topics[before.name]
                self._remove(before, before.partitions, may_return=False)
            elif same is not None and after is not None:
                lost = [p for p in same.partitions if self._node_id not in after.partitions[p.index].replicas]
                self._remove(same, lost, may_return=True)
            if after is not None:
                assignments += self._create(after, same, configs)
        if delta.configs:
            self._configure(delta, configs)
        if assignments or delta.brokers:
            self._replicas.follow(assignments, _peers(image))

    def _mine(self, topic: TopicImage) -> list[PartitionImage]:
        return [partition for partition in topic.partitions if self._node_id in partition.replicas]

    def _create(self, topic: TopicImage, before: TopicImage | None, configs: EffectiveConfigs) -> list[Assignment]:
        """What of it is new here or has changed, when its files may be made."""
        self._topics[topic.name] = topic
        known = before.partitions if before is not None else ()
        config = self._config(topic.name, configs)
        assignments = []
        for partition in self._mine(topic):
            index = partition.index
            if index < len(known) and known[index] is partition:
                continue
            if (topic.name, index) in self._removing:
                continue
            assignment = self._create_one(topic, partition, config)
            if self._is_to_be_made_anew(topic, partition):
                self._set_aside(topic, partition)
            else:
                assignments.append(assignment)
        return assignments

    def _is_to_be_made_anew(self, topic: TopicImage, partition: PartitionImage) -> bool:
        replica = self._manager.get(topic.name, partition.index)
        return (
            replica is not None
            and replica.is_damaged
            and partition.leader not in (NO_LEADER, self._node_id)
            and self._node_id not in partition.isr
            and self._node_id not in partition.elr
        )

    def _set_aside(self, topic: TopicImage, partition: PartitionImage) -> None:
        name = f"{topic.name}-{partition.index}"
        logger.warning(
            "a damaged replica is made anew from its leader; its files are set aside, and may be deleted when it is in "
            "sync",
            partition=name,
            leader=partition.leader,
            kept=name_apart(name, topic.id, DAMAGED_SUFFIX),
        )
        self._take_out(topic, partition.index, may_return=True, keep=True)

    def _create_one(self, topic: TopicImage, partition: PartitionImage, config: LogConfig) -> Assignment:
        self._manager.create(
            topic.name,
            topic.id,
            partition.index,
            config,
            leader_epoch=partition.leader_epoch,
            is_leader=partition.replicas == (self._node_id,),
            is_counted_on=self._node_id in partition.isr or self._node_id in partition.elr,
        )
        return Assignment(
            topic=topic.name,
            topic_id=topic.id,
            index=partition.index,
            leader=partition.leader,
            leader_epoch=partition.leader_epoch,
            replicas=partition.replicas,
            isr=partition.isr,
            partition_epoch=partition.partition_epoch,
            replication_factor=partition.replication_factor,
            unclean=partition.recovery is LeaderRecovery.RECOVERING,
        )

    def _remove(self, topic: TopicImage, partitions: Iterable[PartitionImage], *, may_return: bool) -> None:
        for partition in partitions:
            # While its namesake's files are still on their way out, this one has none: there is nothing to remove.
            if self._node_id in partition.replicas and (topic.name, partition.index) not in self._removing:
                self._take_out(topic, partition.index, may_return=may_return)

    def _take_out(self, topic: TopicImage, index: int, *, may_return: bool, keep: bool = False) -> None:
        self._replicas.forget((topic.id, index))  # it leads and follows no more, whatever its files do
        self._removing.add((topic.name, index))
        done = partial(self._removed, topic, index)
        self._manager.remove(topic.name, index, done, may_return=may_return, keep=keep)

    def _removed(self, before: TopicImage, index: int) -> None:
        self._removing.discard((before.name, index))
        topic = self._topics.get(before.name)
        partition = topic.partitions[index] if topic is not None and index < len(topic.partitions) else None
        is_mine = partition is not None and self._node_id in partition.replicas
        if topic is None or topic.id != before.id or not is_mine:
            self._manager.drop_damaged(before.name, before.id, index)
        if topic is not None and partition is not None and is_mine and self._configs is not None:
            assignment = self._create_one(topic, partition, self._config(topic.name, self._configs))
            self._replicas.follow([assignment], self._replicas.peers)
            self._made_late()

    def _config(self, topic: str, configs: EffectiveConfigs) -> LogConfig:
        texts = configs.topic_configs(topic)
        key = tuple(texts.items())
        if key not in self._log_configs:
            if len(self._log_configs) == _KEPT_CONFIGS:
                self._log_configs.clear()
            self._log_configs[key] = LogConfig.from_topic_configs(texts)
        return self._log_configs[key]

    def _configure(self, delta: MetadataDelta, configs: EffectiveConfigs) -> None:
        names = {name for kind, name in delta.configs if kind is ResourceType.TOPIC}
        if any(kind is ResourceType.BROKER for kind, _ in delta.configs):
            names = set(self._topics)  # the defaults of all topics may have changed
        updates = {}
        for name in names & self._topics.keys():
            topic = self._topics[name]
            config = self._config(name, configs)
            updates.update({(name, partition.index): config for partition in self._mine(topic)})
        self._manager.update_configs(updates)


def _peers(image: MetadataImage) -> Peers:
    return {
        one.id: Peer(
            node=one.id,
            broker_epoch=one.epoch,
            host=one.replication.host if one.replication is not None else "",
            port=one.replication.port if one.replication is not None else 0,
            fenced=one.fenced,
        )
        for one in image.brokers.values()
    }
