"""Which shards of a coordinator a broker holds: they follow replicas, which may lead later than the metadata say."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.leaderships import Leaderships

pytestmark = pytest.mark.interpreted  # a compiled `leaderships` takes nothing that stands in a partition's place

TOPIC = "__transaction_state"


class Log:
    """A replica that does not lead yet."""

    def __init__(self) -> None:
        self.is_leader, self.leader_epoch = False, 7
        self.watchers: list[Callable[[], None]] = []
        self.add_watcher, self.remove_watcher = self.watchers.append, self.watchers.remove

    def lead(self) -> None:
        self.is_leader = True
        for watcher in tuple(self.watchers):
            watcher()


class Rig:
    """Node 1, which is to lead the one partition of the topic. As a coordinator it remembers what it was told."""

    def __init__(self) -> None:
        self.log = Log()
        self.led: list[Log] = []
        topic = SimpleNamespace(partitions=(SimpleNamespace(index=0, leader=1, leader_epoch=7),))
        broker = SimpleNamespace(
            when_back=[],
            image=SimpleNamespace(topics={TOPIC: topic}),
            settings=SimpleNamespace(node_id=1),
            partitions=SimpleNamespace(get=lambda name, index: self.log),
        )
        self.leaderships = Leaderships(cast(Any, broker), TOPIC, cast(Any, self))
        self.leaderships.follow()

    def lead(self, index: int, log: Log, leader_epoch: int) -> None:
        self.led.append(log)


def test_a_replica_that_is_about_to_lead_is_awaited() -> None:
    rig = Rig()
    rig.leaderships.follow()
    assert rig.led == []
    rig.log.lead()
    assert (rig.led, rig.log.watchers) == ([rig.log], [])


def test_a_replica_that_was_made_anew_is_awaited_in_place_of_the_one_before() -> None:
    rig = Rig()
    before, rig.log = rig.log, Log()
    rig.leaderships.follow()
    rig.log.lead()
    assert rig.led == [rig.log]
    assert before.watchers == rig.log.watchers == []
