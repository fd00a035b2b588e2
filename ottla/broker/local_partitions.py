"""Keeps this node's partitions in step with the metadata image: creates, configures and removes them."""

from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import MetadataDelta, MetadataImage, PartitionImage, ResourceType, TopicImage
from ottla.core.types import NodeId
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager


class LocalPartitions:
    """The partitions of which this node holds a replica."""

    def __init__(self, node_id: NodeId, manager: PartitionManager) -> None:
        self._node_id = node_id
        self._manager = manager
        self._topics: dict[str, TopicImage] = {}

    def open(self, image: MetadataImage, configs: EffectiveConfigs) -> None:
        """All of them. Recovery reads files: only at start."""
        for topic in image.topics.values():
            self._create(topic, 0, configs)

    def follow(self, delta: MetadataDelta, configs: EffectiveConfigs) -> None:
        """What one committed batch changed."""
        for before, after in delta.topics.values():
            replaced = before is not None and (after is None or after.id != before.id)
            if before is not None and replaced:
                self._remove(before)
            if after is not None:
                self._create(after, 0 if before is None or replaced else len(before.partitions), configs)
        if delta.configs:
            self._configure(delta, configs)

    def _mine(self, topic: TopicImage, first: int = 0) -> list[PartitionImage]:
        return [partition for partition in topic.partitions[first:] if self._node_id in partition.replicas]

    def _create(self, topic: TopicImage, first: int, configs: EffectiveConfigs) -> None:
        self._topics[topic.name] = topic
        config = LogConfig.from_topic_configs(configs.topic_configs(topic.name))
        for partition in self._mine(topic, first):
            self._manager.create(
                topic.name,
                topic.id,
                partition.index,
                config,
                leader_epoch=partition.leader_epoch,
                is_leader=partition.leader == self._node_id,
            )

    def _remove(self, topic: TopicImage) -> None:
        del self._topics[topic.name]
        for partition in self._mine(topic):
            self._manager.remove(topic.name, partition.index)

    def _configure(self, delta: MetadataDelta, configs: EffectiveConfigs) -> None:
        names = {name for kind, name in delta.configs if kind is ResourceType.TOPIC}
        if any(kind is ResourceType.BROKER for kind, _ in delta.configs):
            names = set(self._topics)  # the defaults of all topics may have changed
        updates = {}
        for name in names & self._topics.keys():
            topic = self._topics[name]
            config = LogConfig.from_topic_configs(configs.topic_configs(name))
            updates.update({(name, partition.index): config for partition in self._mine(topic)})
        self._manager.update_configs(updates)
