"""Which shards of a coordinator live on a broker: those whose partition of the coordinator's topic it leads.

A shard is loaded when the partition's own replica leads, which may be a little later than the metadata say so: a
follower that is being cut first has to be whole again. When another node leads, the shard goes.
"""

from typing import Protocol

from ottla.broker.broker import Broker
from ottla.partitions.partition import Partition


class Coordinator(Protocol):
    """What is led: groups, transactions."""

    def lead(self, index: int, log: Partition, leader_epoch: int) -> None:
        """Partition `index` of the topic is led here; nothing happens when the epoch is known."""

    def resign(self, index: int) -> None:
        """It is led elsewhere."""


class Leaderships:
    """Keeps a broker's coordinator in step with `topic`; `follow` is called whenever the topic changed."""

    def __init__(self, broker: Broker, topic: str, coordinator: Coordinator) -> None:
        self._broker, self._topic, self._coordinator = broker, topic, coordinator
        self._awaited: dict[int, Partition] = {}
        self._led: set[int] = set()
        broker.when_back.append(self.follow)

    def follow(self) -> None:
        """Load what this node leads now, unload the rest."""
        broker, before = self._broker, self._led
        self._led = led = set()
        topic = broker.image.topics.get(self._topic)
        for partition in topic.partitions if topic is not None else ():
            if partition.leader != broker.settings.node_id:
                continue
            log = broker.partitions.get(self._topic, partition.index)
            if log is None:
                continue
            if log.is_leader and log.leader_epoch == partition.leader_epoch:
                self._coordinator.lead(partition.index, log, partition.leader_epoch)
                led.add(partition.index)
            elif (awaited := self._awaited.get(partition.index)) is not log:
                if awaited is not None:  # that replica went, and this one was made in its place
                    awaited.remove_watcher(self._look)
                self._awaited[partition.index] = log
                log.add_watcher(self._look)
        for index in sorted(before - led):
            self._coordinator.resign(index)

    def _look(self) -> None:
        """An awaited replica moved: perhaps it leads now."""
        leading = [index for index, log in self._awaited.items() if log.is_leader]
        for index in leading:
            self._awaited.pop(index).remove_watcher(self._look)
        if leading:
            self.follow()
