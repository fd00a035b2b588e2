"""Which groups a broker coordinates: those whose partition of `__consumer_offsets` it leads.

A shard is loaded when the partition's own replica leads, which may be a little later than the metadata say so: a
follower that is being cut first has to be whole again. When another node leads, the shard goes.
"""

from ottla.broker.broker import Broker
from ottla.coordinators.groups.service import CONSUMER_OFFSETS, GroupCoordinator
from ottla.partitions.partition import Partition


class GroupLeaderships:
    """Keeps one broker's coordinator in step; `follow` is called whenever the topic changed."""

    def __init__(self, broker: Broker, coordinator: GroupCoordinator) -> None:
        self._broker, self._coordinator = broker, coordinator
        self._awaited: dict[int, Partition] = {}

    def follow(self) -> None:
        """Load what this node leads now, unload the rest."""
        broker, coordinator = self._broker, self._coordinator
        topic = broker.image.topics.get(CONSUMER_OFFSETS)
        led = set()
        for partition in topic.partitions if topic is not None else ():
            if partition.leader != broker.settings.node_id:
                continue
            log = broker.partitions.get(CONSUMER_OFFSETS, partition.index)
            if log is None:
                continue
            if log.is_leader and log.leader_epoch == partition.leader_epoch:
                coordinator.lead(partition.index, log, partition.leader_epoch)
                led.add(partition.index)
            elif partition.index not in self._awaited:
                self._awaited[partition.index] = log
                log.add_watcher(self._look)
        for index in coordinator.runtime.indices:
            if index not in led:
                coordinator.resign(index)

    def _look(self) -> None:
        """An awaited replica moved: perhaps it leads now."""
        leading = [index for index, log in self._awaited.items() if log.is_leader]
        for index in leading:
            self._awaited.pop(index).remove_watcher(self._look)
        if leading:
            self.follow()
