"""Random histories of brokers that crash, lose records, come back and move, beside a model of who has which records.

The model knows for each partition which replicas hold every committed record. A leader commits while its ISR is large
enough; then whoever is not in the ISR lacks something. So what the controller calls in sync or eligible must be among
those replicas after every step, unless nobody who had everything was left.
"""

import os
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.controller.alter_configs import alter_configs
from ottla.controller.alter_partition import alter_partitions
from ottla.controller.create_topics import create_topics
from ottla.controller.decision import Decision
from ottla.controller.elect_leaders import balance_leaders, elect_leaders
from ottla.controller.fencing import fence, heartbeat, resign
from ottla.controller.image import NO_LEADER, LeaderRecovery, MetadataImage, PartitionImage, ResourceType
from ottla.controller.reassignment import alter_partition_reassignments
from ottla.controller.register_broker import may_have_lost, register_broker
from ottla.controller.remove_broker import replace_broker, unregister_broker
from ottla.controller.requests import (
    AlterResource,
    BrokerHeartbeat,
    ConfigChange,
    ConfigOperation,
    ElectionType,
    IsrChange,
    NewTopic,
    Reassignment,
)
from ottla.controller.snapshot import snapshot_records
from ottla.controller.topic_rules import TopicRules
from ottla.core.error_codes import ErrorCode
from ottla.core.types import NodeId
from tests.unit.controller.cluster import IdSource, after, configs, image_of, registration, uuid

BROKERS = tuple(map(NodeId, (1, 2, 3, 4)))
TOPIC, PAGE_CACHE = "durable", "page-cache"
Event = tuple[str, int, int, int]
Key = tuple[str, int]

WEIGHTS = {
    "start": 3,
    "ready": 4,
    "fence": 2,
    "commit": 3,
    "shrink": 1,
    "grow": 3,
    "stop": 1,
    "resign": 1,
    "move": 2,
    "cancel": 1,
    "prefer": 1,
    "balance": 1,
    "force": 1,
    "min_isr": 1,
    "unclean": 1,
    "replace": 1,
    "unregister": 1,
}

events = st.lists(
    st.tuples(
        st.sampled_from([action for action, weight in WEIGHTS.items() for _ in range(weight)]),
        st.integers(0, 3),
        st.integers(0, 63),
        st.integers(0, 3),
    ),
    min_size=5,
    max_size=80,
)


def one_bits(number: int) -> set[NodeId]:
    return {broker for position, broker in enumerate(BROKERS) if number >> position & 1}


@dataclass
class History:
    """The cluster, and what the model knows of it."""

    image: MetadataImage = field(default_factory=MetadataImage)
    complete: dict[Key, set[NodeId]] = field(default_factory=dict)
    lost: dict[Key, set[NodeId]] = field(default_factory=dict)  # replicas that lose records in this step
    incarnations: int = 0
    boots: dict[NodeId, int] = field(default_factory=dict)

    def begin(self) -> None:
        for broker in BROKERS[:3]:
            self.start(broker, same_boot=True, in_order=True)
            self.ready(broker, 0)
        new = [
            NewTopic(name=TOPIC, partitions=2, replication_factor=3, configs={"min.insync.replicas": "2"}),
            NewTopic(
                name=PAGE_CACHE,
                partitions=2,
                replication_factor=3,
                configs={"min.insync.replicas": "2", "ottla.flush.on.ack": "false"},
            ),
        ]
        self.take(create_topics(self.image, configs(self.image), new, IdSource()))
        for key, partition in self.partitions():
            self.complete[key] = set(partition.replicas)

    def partitions(self) -> list[tuple[Key, PartitionImage]]:
        return [((t.name, p.index), p) for t in self.image.topics.values() for p in t.partitions]

    def one(self, number: int) -> tuple[Key, PartitionImage]:
        return self.partitions()[number % 4]

    def take(self, decision: Decision[Any]) -> None:
        self.image = after(self.image, decision)

    # -- events

    def start(self, broker: NodeId, *, same_boot: bool, in_order: bool) -> None:
        self.incarnations += 1
        boot = self.boots[broker] = self.boots.get(broker, 0) + (not same_boot)
        known = self.image.brokers.get(broker)
        asked = replace(
            registration(broker, self.incarnations),
            boot_id=f"{broker}-{boot}",
            directory_id=uuid(broker),
            previous_broker_epoch=known.epoch if known is not None and in_order else 0,
        )
        if known is not None and may_have_lost(known, asked):
            for key, _ in self.partitions():
                if key[0] == PAGE_CACHE:
                    self.lose(key, broker)
        self.take(register_broker(self.image, configs(self.image), asked))

    def ready(self, broker: NodeId, cut: int) -> None:
        known = self.image.brokers[broker]
        truncated = []
        if known.fenced:
            for position, (key, _) in enumerate(self.partitions()):
                if cut >> position & 1:
                    truncated.append((self.image.topics[key[0]].id, key[1]))
                    self.lose(key, broker)
        beat = BrokerHeartbeat(
            broker_id=broker, broker_epoch=known.epoch, metadata_offset=self.image.offset, truncated=truncated
        )
        self.take(heartbeat(self.image, configs(self.image), beat, registered_at=0))

    def lose(self, key: Key, broker: NodeId) -> None:
        self.complete[key].discard(broker)
        self.lost.setdefault(key, set()).add(broker)

    def commit(self, number: int) -> None:
        key, partition = self.one(number)
        least = TopicRules(self.image, configs(self.image)).of(key[0]).least_isr(partition.replication_factor)
        if partition.leader != NO_LEADER and len(partition.isr) >= least:
            assert set(partition.isr) <= self.complete[key]
            self.complete[key] = set(partition.isr)

    def alter(self, number: int, isr: set[NodeId]) -> None:
        key, partition = self.one(number)
        if partition.leader == NO_LEADER:
            return
        topic = self.image.topics[key[0]]
        wanted = [one for one in partition.replicas if one in isr]
        brokers = self.image.brokers
        change = IsrChange(
            topic_id=topic.id,
            partition=key[1],
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            isr=[(one, brokers[one].epoch if one in brokers else -1) for one in wanted],
        )
        epoch = brokers[partition.leader].epoch
        decision = alter_partitions(self.image, configs(self.image), partition.leader, epoch, [change])
        inactive = not set(wanted) <= self.image.active_brokers
        refused = decision.result[0].error not in (ErrorCode.NONE, ErrorCode.NEW_LEADER_ELECTED)
        assert refused == inactive
        if not refused:
            self.complete[key] |= set(wanted)  # they had caught up
        self.take(decision)

    def configure(self, topic: str, name: str, value: str) -> None:
        change = ConfigChange(name=name, operation=ConfigOperation.SET, value=value)
        resource = AlterResource(type=ResourceType.TOPIC, name=topic, changes=[change])
        self.take(alter_configs(self.image, configs(self.image), [resource]))

    def perform(self, event: Event) -> None:
        action, which, number, other = event
        broker, image = BROKERS[which], self.image
        known = image.brokers.get(broker)
        if action == "start":
            self.start(broker, same_boot=bool(number & 1), in_order=bool(number & 2))
        elif action == "commit":
            self.commit(number)
        elif action in ("shrink", "grow"):
            _, partition = self.one(number)
            isr = {*partition.isr, partition.leader}
            self.alter(number, isr | {broker} if action == "grow" else (isr - {broker}) | {partition.leader})
        elif action in ("move", "cancel"):
            key, _ = self.one(number)
            target = [one for one in BROKERS[other:] + BROKERS[:other] if one in one_bits(number // 4)]
            wanted = Reassignment(topic=key[0], partition=key[1], replicas=None if action == "cancel" else target)
            self.take(alter_partition_reassignments(image, configs(image), [wanted]))
        elif action == "prefer":
            self.take(elect_leaders(image, configs(image), ElectionType.PREFERRED, None))
        elif action == "balance":
            self.take(balance_leaders(image))
        elif action == "force":
            self.take(elect_leaders(image, configs(image), ElectionType.UNCLEAN, [self.one(number)[0]]))
        elif action == "min_isr":
            self.configure(TOPIC, "min.insync.replicas", str(1 + other % 3))
        elif action == "unclean":
            self.configure(PAGE_CACHE, "unclean.leader.election.enable", ("true", "false")[other % 2])
        elif known is not None:
            self.perform_on(action, broker, number)

    def perform_on(self, action: str, broker: NodeId, number: int) -> None:
        image = self.image
        known, of_image = image.brokers[broker], configs(image)
        if action == "ready":
            self.ready(broker, number % 16 if number > 40 else 0)
        elif action == "fence":
            self.take(fence(image, of_image, {broker, *(one_bits(number) if number > 40 else ())}))
        elif action == "stop":
            beat = BrokerHeartbeat(broker_id=broker, broker_epoch=known.epoch, metadata_offset=0, stop=True)
            self.take(heartbeat(image, of_image, beat, registered_at=0))
        elif action == "resign":
            self.take(resign(image, of_image, broker, known.epoch))
        elif action == "replace" and known.fenced:
            for key, _ in self.partitions():
                self.lose(key, broker)
            self.take(replace_broker(image, of_image, broker, accept_loss=True))
        elif action == "unregister" and number > 40:
            self.take(unregister_broker(image, of_image, broker))

    # -- what must hold

    def check(self, before: MetadataImage) -> None:
        active = self.image.active_brokers
        for key, new in self.partitions():
            old = before.partition(*key)
            assert old is not None
            assert new.isr
            assert len(set(new.isr)) == len(new.isr)
            assert set(new.isr) <= set(new.replicas)
            assert set(new.elr) <= set(new.replicas) - set(new.isr)
            assert set(new.last_known_elr) <= set(new.replicas) - set(new.isr) - set(new.elr)
            assert new.leader == NO_LEADER or new.leader in set(new.isr) & active
            assert set(new.isr) <= active or not set(new.isr) & active
            assert {*new.adding, *new.removing} <= set(new.replicas)
            assert not set(new.adding) & set(new.removing)
            if new != old:
                assert new.partition_epoch > old.partition_epoch
            if new.leader != old.leader:
                assert new.leader_epoch > old.leader_epoch
            self.check_records(key, old, new)
        for broker, image in self.image.brokers.items():
            known = before.brokers.get(broker)
            if known is not None and known.epoch != image.epoch:
                self.check_ended(before, broker)

    def check_ended(self, before: MetadataImage, broker: NodeId) -> None:
        """A new incarnation leads nothing under an epoch of the one before it."""
        for key, new in self.partitions():
            old = before.partition(*key)
            assert old is not None
            if old.leader == broker:
                assert new.leader_epoch > old.leader_epoch

    def check_records(self, key: Key, old: PartitionImage, new: PartitionImage) -> None:
        lost = self.lost.get(key, set())
        unclean = new.recovery is LeaderRecovery.RECOVERING and new != old
        assert not (unclean and new.elr)
        none_left = not ({*old.isr, *old.elr} - lost)
        if unclean or none_left:  # the history goes on from what is left
            self.complete[key] = {*new.isr, *new.elr}
        trusted = {*new.isr, *new.elr}
        assert trusted <= self.complete[key], (key, trusted, self.complete[key])


@settings(max_examples=int(os.environ.get("OTTLA_MODEL_EXAMPLES", "300")), deadline=None)
@given(events)
def test_who_is_in_sync_or_eligible_has_every_committed_record(history: list[Event]) -> None:
    cluster = History()
    cluster.begin()
    for event in history:
        before = cluster.image
        cluster.lost.clear()
        cluster.perform(event)
        cluster.check(before)
    image = cluster.image
    again = image_of(list(snapshot_records(image)))
    assert {t.name: t.partitions for t in again.topics.values()} == {
        t.name: t.partitions for t in image.topics.values()
    }
    assert dict(again.brokers) == dict(image.brokers)
    assert again.last_broker_epoch == image.last_broker_epoch
