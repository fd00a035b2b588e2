"""Keeps this node's partitions in step with the metadata image: creates, configures and removes them."""

from functools import partial

import structlog

from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import MetadataDelta, MetadataImage, PartitionImage, ResourceType, TopicImage
from ottla.core.types import NodeId
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager

logger = structlog.get_logger(__name__)

_KEPT_CONFIGS = 100


class LocalPartitions:
    """The partitions of which this node holds a replica.

    A topic that is created again before the files of its namesake are out of the way gets its partitions when they
    are; until then clients are told to try again.
    """

    def __init__(self, node_id: NodeId, manager: PartitionManager) -> None:
        self._node_id = node_id
        self._manager = manager
        self._topics: dict[str, TopicImage] = {}
        self._removing: set[tuple[str, int]] = set()
        self._configs: EffectiveConfigs | None = None
        self._log_configs: dict[tuple[tuple[str, str], ...], LogConfig] = {}  # most topics have the same

    def open(self, image: MetadataImage, configs: EffectiveConfigs) -> None:
        """All of them. Recovery reads files: only at start."""
        self._configs = configs
        for topic in image.topics.values():
            self._create(topic, 0, configs)

    def follow(self, delta: MetadataDelta, configs: EffectiveConfigs) -> None:
        """What one committed batch changed."""
        self._configs = configs
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
        config = self._config(topic.name, configs)
        for partition in self._mine(topic, first):
            if (topic.name, partition.index) not in self._removing:
                self._create_one(topic, partition, config)

    def _create_one(self, topic: TopicImage, partition: PartitionImage, config: LogConfig) -> None:
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
            self._removing.add((topic.name, partition.index))
            self._manager.remove(topic.name, partition.index, partial(self._removed, topic.name, partition.index))

    def _removed(self, name: str, index: int, error: Exception | None) -> None:
        if error is not None:
            # The name stays taken: a new partition there would find the old one's files. The next start moves them.
            logger.error("a deleted partition is still on disk", topic=name, partition=index, error=str(error))
            return
        self._removing.discard((name, index))
        topic = self._topics.get(name)
        if topic is None or index >= len(topic.partitions) or self._configs is None:
            return
        partition = topic.partitions[index]
        if self._node_id in partition.replicas:
            self._create_one(topic, partition, self._config(name, self._configs))

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
