from dataclasses import replace

import pytest

from ottla.controller.election import settle
from ottla.controller.image import LeaderRecovery, PartitionImage
from ottla.controller.topic_rules import Rules, TopicRules
from ottla.core.types import NodeId
from tests.unit.controller.cluster import configs
from tests.unit.controller.states import brokers, holding, nodes, partition

TWO = Rules(min_isr=2)
ONE = Rules(min_isr=1)
UNCLEAN = Rules(min_isr=2, unclean=True)


@pytest.mark.parametrize(
    ("before", "active", "leader", "isr", "elr", "last_known"),
    [
        # the leader stays, whoever else goes
        (partition(2, (1, 2, 3)), (1, 2, 3), 2, (1, 2, 3), (), ()),
        (partition(2, (1, 2, 3)), (2, 3), 2, (2, 3), (), ()),
        (partition(2, (1, 2, 3)), (2,), 2, (2,), (1, 3), ()),
        # the leader goes: the first replica in sync, so the preferred one if it can be
        (partition(2, (3, 2, 1)), (1, 3), 1, (3, 1), (), ()),
        (partition(1, (1, 2, 3)), (2, 3), 2, (2, 3), (), ()),
        (partition(1, (1, 3)), (2, 3), 3, (3,), (1,), ()),
        # nobody is left: all stay, and none leads
        (partition(1, (1, 2, 3)), (), -1, (1, 2, 3), (), ()),
        (partition(1, (1,), elr=(2,)), (), -1, (1,), (2,), ()),
        # whoever of them returns leads, and the others are eligible
        (partition(-1, (1, 2, 3)), (3,), 3, (3,), (1, 2), ()),
        # out of sync, but eligible
        (partition(1, (1,), elr=(2, 3)), (3,), 3, (3,), (1, 2), ()),
        (partition(1, (1,), elr=(2,)), (3,), -1, (1,), (2,), ()),
        (partition(1, (1,), elr=(2,), last_known_elr=(3,)), (3,), -1, (1,), (2,), (3,)),
        # a replica that is merely there is not enough
        (partition(1, (1,)), (2, 3), -1, (1,), (), ()),
    ],
)
def test_who_leads_and_who_is_in_sync(
    before: PartitionImage,
    active: tuple[int, ...],
    leader: int,
    isr: tuple[int, ...],
    elr: tuple[int, ...],
    last_known: tuple[int, ...],
) -> None:
    after = settle(before, TWO, set(nodes(*active)))
    assert (after.leader, after.isr, after.elr, after.last_known_elr) == (leader, isr, elr, last_known)
    assert after.recovery is LeaderRecovery.RECOVERED


def test_nobody_is_eligible_where_one_replica_is_enough_to_commit() -> None:
    after = settle(partition(1, (1, 2, 3)), ONE, set(nodes(3)))
    assert (after.leader, after.isr, after.elr) == (3, (3,), ())


def test_a_partition_of_two_replicas_needs_no_third_to_commit() -> None:
    three = Rules(min_isr=3)
    after = settle(partition(1, (1, 2), (1, 2)), three, set(nodes(1, 2)))
    assert after.elr == ()
    assert settle(after, three, set(nodes(2))).elr == nodes(1)


def test_an_unclean_election_forgets_who_was_eligible_and_has_the_leader_recover() -> None:
    before = partition(1, (1,), elr=(2,), last_known_elr=(3,))
    assert settle(before, TWO, set(nodes(3))).leader == -1
    for after in (settle(before, UNCLEAN, set(nodes(3))), settle(before, TWO, set(nodes(3)), unclean=True)):
        assert after == replace(
            before,
            leader=NodeId(3),
            isr=nodes(3),
            elr=(),
            last_known_elr=(),
            recovery=LeaderRecovery.RECOVERING,
        )


def test_an_unclean_election_is_not_held_while_a_clean_one_can_be() -> None:
    after = settle(partition(1, (1,), elr=(2,)), UNCLEAN, set(nodes(2, 3)))
    assert (after.leader, after.recovery) == (2, LeaderRecovery.RECOVERED)


@pytest.mark.parametrize(
    ("before", "active", "leader", "isr", "elr", "last_known"),
    [
        # others are in sync, also while they are away
        (partition(-1, (1, 2)), (1,), -1, (2,), (), (1,)),
        (partition(-1, (1, 2)), (1, 2), 2, (2,), (), (1,)),
        (partition(2, (2,), elr=(1,)), (1, 2), 2, (2,), (), (1,)),
        # others are eligible: one of them counts as in sync
        (partition(-1, (1,), elr=(2, 3)), (1,), -1, (2,), (3,), (1,)),
        (partition(-1, (1,), elr=(2, 3)), (1, 3), 3, (3,), (2,), (1,)),
        # nobody has more
        (partition(-1, (1,)), (1,), 1, (1,), (), ()),
        (partition(-1, (1,), last_known_elr=(2,)), (1, 2), 1, (1,), (), (2,)),
    ],
)
def test_a_replica_that_may_have_lost_records_comes_last(
    before: PartitionImage,
    active: tuple[int, ...],
    leader: int,
    isr: tuple[int, ...],
    elr: tuple[int, ...],
    last_known: tuple[int, ...],
) -> None:
    after = settle(before, TWO, set(nodes(*active)), lost=set(nodes(1)))
    assert (after.leader, after.isr, after.elr, after.last_known_elr) == (leader, isr, elr, last_known)


def test_unclean_elections_too_prefer_a_replica_that_lost_nothing() -> None:
    before = partition(-1, (3,), (1, 2, 3))
    assert settle(before, UNCLEAN, set(nodes(1, 2)), lost=set(nodes(1))).leader == 2


def test_rules_come_from_the_topic_then_from_what_brokers_set_for_all() -> None:
    image = holding(brokers(1), partition(1, (1,), (1,)), configs={"unclean.leader.election.enable": "true"})
    rules = TopicRules(image, configs(image, {"min.insync.replicas": "3", "ottla.flush.on.ack": "false"}))
    assert rules.of("a") == Rules(min_isr=3, unclean=True, durable=False)
    assert rules.of("b") == Rules(min_isr=3, unclean=False, durable=False)
    assert rules.of("b") is rules.of("c")


def test_while_replicas_move_no_more_must_be_in_sync_than_before_and_after() -> None:
    alone = partition(1, (1,), (2, 1), adding=(2,), removing=(1,))
    assert alone.replication_factor == 1
    grown = settle(partition(1, (1, 2), (2, 1), adding=(2,), removing=(1,)), TWO, set(nodes(1)))
    assert (grown.isr, grown.elr) == (nodes(1), ())
    assert partition(1, (1, 2), (4, 2, 3, 1), adding=(4,), removing=(1,)).replication_factor == 3
    assert partition(1, (1,), (1, 2, 3), adding=(2, 3)).replication_factor == 1
    assert partition(1, (1, 2, 3), removing=(2, 3)).replication_factor == 1
