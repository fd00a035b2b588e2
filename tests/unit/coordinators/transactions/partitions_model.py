"""Partitions as far as transactions concern them: what is written, what markers make of it, and who is refused."""

from collections import defaultdict

from ottla.coordinators.transactions.ports import EndedTransaction, TopicPartition

Tag = int
"""A transaction as its client counts them."""


class PartitionsModel:
    """Data is a tag; a marker ends all tags that its producer has open in that partition."""

    def __init__(self) -> None:
        self.open: dict[tuple[TopicPartition, int], set[Tag]] = defaultdict(set)
        self.written: dict[Tag, set[TopicPartition]] = defaultdict(set)
        self.ended: dict[Tag, dict[TopicPartition, bool]] = defaultdict(dict)
        self._epochs: dict[tuple[TopicPartition, int], int] = {}
        self._coordinator_epochs: dict[tuple[TopicPartition, int], int] = {}

    def write(self, tag: Tag, partition: TopicPartition, producer: tuple[int, int]) -> bool:
        """False for a producer that was fenced."""
        producer_id, epoch = producer
        key = partition, producer_id
        if epoch < self._epochs.get(key, -1):
            return False
        self._epochs[key] = epoch
        self.open[key].add(tag)
        self.written[tag].add(partition)
        return True

    def end(self, marker: EndedTransaction, partition: TopicPartition) -> bool:
        """False for a marker from the past."""
        key = partition, marker.producer_id
        if marker.coordinator_epoch < self._coordinator_epochs.get(key, -1):
            return False
        if marker.producer_epoch < self._epochs.get(key, -1):
            return False
        self._coordinator_epochs[key], self._epochs[key] = marker.coordinator_epoch, marker.producer_epoch
        for tag in self.open.pop(key, ()):
            assert partition not in self.ended[tag], "ended twice"
            self.ended[tag][partition] = marker.committed
            assert set(self.ended[tag].values()) == {marker.committed}, "markers of both kinds"
        return True
