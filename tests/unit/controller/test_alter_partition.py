from collections.abc import Sequence

import pytest

from ottla.controller.alter_partition import alter_partitions
from ottla.controller.decision import Decision
from ottla.controller.image import LeaderRecovery, MetadataImage
from ottla.controller.requests import AlteredPartition, IsrChange
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId, Uuid
from tests.unit.controller.cluster import configs, uuid
from tests.unit.controller.states import TOPIC_ID, brokers, change, changes, holding, nodes, partition, the_partition

ONE = NodeId(1)


def wish(
    *isr: int,
    index: int = 0,
    leader_epoch: int = 5,
    partition_epoch: int = 7,
    topic_id: Uuid = TOPIC_ID,
    epochs: Sequence[int] | None = None,
    recovery: LeaderRecovery = LeaderRecovery.RECOVERED,
) -> IsrChange:
    """Brokers have their numbers as their epochs."""
    return IsrChange(
        topic_id=topic_id,
        partition=index,
        leader_epoch=leader_epoch,
        partition_epoch=partition_epoch,
        isr=list(zip(nodes(*isr), epochs or isr, strict=True)),
        recovery=recovery,
    )


def alter(image: MetadataImage, *wishes: IsrChange, broker: int = 1) -> Decision[list[AlteredPartition]]:
    return alter_partitions(image, configs(image), NodeId(broker), broker, wishes)


def test_a_leader_gets_the_isr_that_it_asks_for_and_the_next_partition_epoch() -> None:
    image = holding(brokers(), partition(1, (1, 2)))
    decision = alter(image, wish(1, 2, 3))
    assert decision.records == [change(isr=[1, 2, 3])]
    assert decision.result == [
        AlteredPartition(
            topic_id=TOPIC_ID,
            partition=0,
            leader=ONE,
            leader_epoch=5,
            partition_epoch=8,
            isr=nodes(1, 2, 3),
        )
    ]


def test_what_is_so_already_is_not_written() -> None:
    decision = alter(holding(brokers(), partition(1, (1, 2))), wish(1, 2))
    assert (decision.records, decision.result[0].partition_epoch) == ([], 7)


def test_hundreds_of_changes_are_one_record_for_each_kind() -> None:
    image = holding(brokers(), *(partition(1, (1, 2, 3), index=index) for index in range(500)))
    wishes = [wish(1, 2 + index % 2, index=index) for index in range(500)]
    assert alter(image, *wishes).records == [
        changes({TOPIC_ID: range(0, 500, 2)}, isr=[1, 2]),
        changes({TOPIC_ID: range(1, 500, 2)}, isr=[1, 3]),
    ]


def test_below_the_minimum_those_that_leave_are_eligible_until_the_isr_has_grown_again() -> None:
    image = holding(brokers(), partition(1, (1, 2, 3)))
    assert alter(image, wish(1)).records == [change(isr=[1], elr=[2, 3])]
    image = holding(brokers(), partition(1, (1,), elr=(2,), last_known_elr=(3,)))
    assert alter(image, wish(1, 3)).records == [change(isr=[1, 3], elr=[], last_known_elr=[])]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (wish(1, topic_id=uuid(9)), ErrorCode.UNKNOWN_TOPIC_ID),
        (wish(1, index=1), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (wish(1, leader_epoch=6), ErrorCode.NOT_CONTROLLER),
        (wish(1, partition_epoch=8), ErrorCode.NOT_CONTROLLER),
        (wish(1, leader_epoch=4, partition_epoch=6), ErrorCode.FENCED_LEADER_EPOCH),
        (wish(1, partition_epoch=6), ErrorCode.INVALID_UPDATE_VERSION),
        (wish(), ErrorCode.INVALID_REQUEST),
        (wish(2, 3), ErrorCode.INVALID_REQUEST),
        (wish(1, 1), ErrorCode.INVALID_REQUEST),
        (wish(1, 4), ErrorCode.INVALID_REQUEST),
        (wish(1, recovery=LeaderRecovery.RECOVERING), ErrorCode.INVALID_REQUEST),
        (wish(1, 2, epochs=(1, 1)), ErrorCode.INELIGIBLE_REPLICA),
        (wish(1, 3), ErrorCode.INELIGIBLE_REPLICA),
        (wish(1, 3, epochs=(1, -1)), ErrorCode.INELIGIBLE_REPLICA),
        (wish(1, 2, epochs=(1, -1)), ErrorCode.NONE),
    ],
)
def test_what_is_refused(asked: IsrChange, expected: ErrorCode) -> None:
    image = holding(brokers(4, fenced=[3]), partition(1, (1,)))
    decision = alter(image, asked)
    assert [one.error for one in decision.result] == [expected]
    assert bool(decision.records) == (expected is ErrorCode.NONE)


def test_a_broker_that_is_shutting_down_does_not_join() -> None:
    image = holding(brokers(stopping=[2]), partition(1, (1,)))
    assert alter(image, wish(1, 2)).result[0].error is ErrorCode.INELIGIBLE_REPLICA


def test_only_the_leader_asks_and_only_under_its_own_epoch() -> None:
    image = holding(brokers(), partition(1, (1, 2)))
    assert alter(image, wish(1, 2, 3), broker=2).result[0].error is ErrorCode.INVALID_REQUEST
    with pytest.raises(ApiError) as caught:
        alter_partitions(image, configs(image), ONE, 2, [wish(1)])
    assert caught.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_one_wish_fails_by_itself_and_a_partition_is_changed_once() -> None:
    image = holding(brokers(), partition(1, (1, 2, 3)), partition(1, (1, 2, 3), index=1))
    decision = alter(image, wish(1, 2), wish(1, 2, index=1, leader_epoch=4), wish(1, 3))
    assert [one.error for one in decision.result] == [
        ErrorCode.NONE,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_REQUEST,
    ]
    assert decision.records == [change(isr=[1, 2])]


def test_a_leader_that_was_elected_uncleanly_says_when_it_has_recovered() -> None:
    image = holding(brokers(), partition(1, (1,), recovery=LeaderRecovery.RECOVERING))
    assert alter(image, wish(1, 2, recovery=LeaderRecovery.RECOVERING)).result[0].error is ErrorCode.INVALID_REQUEST
    assert alter(image, wish(1, recovery=LeaderRecovery.RECOVERING)).records == []
    assert alter(image, wish(1)).records == [change(leader_recovery_state=0)]


def test_the_replica_that_completes_a_reassignment_sends_the_others_away() -> None:
    moving = partition(2, (2, 3, 1), (4, 2, 3, 1), adding=(4,), removing=(1,))
    image = holding(brokers(4), moving)
    decision = alter(image, wish(2, 3, 1, 4), broker=2)
    assert decision.records == [change(leader=2, replicas=[4, 2, 3], isr=[2, 3, 4], adding=[], removing=[])]
    (answer,) = decision.result
    assert (answer.error, answer.leader, answer.leader_epoch, answer.isr) == (ErrorCode.NONE, 2, 6, nodes(2, 3, 4))
    after = the_partition(image, decision)
    assert (after.replicas, after.is_reassigning) == (nodes(4, 2, 3), False)


def test_a_leader_that_goes_with_the_reassignment_is_told_who_leads_now() -> None:
    moving = partition(1, (1, 2, 3), (4, 2, 3, 1), adding=(4,), removing=(1,))
    (answer,) = alter(holding(brokers(4), moving), wish(1, 2, 3, 4)).result
    assert (answer.error, answer.leader, answer.leader_epoch, answer.isr) == (
        ErrorCode.NEW_LEADER_ELECTED,
        4,
        6,
        nodes(2, 3, 4),
    )


def test_a_reassignment_does_not_complete_while_too_few_would_be_left_in_sync() -> None:
    moving = partition(1, (1,), (4, 2, 3, 1), adding=(4,), removing=(1,))
    image = holding(brokers(4), moving)
    assert alter(image, wish(1, 4)).records == [change(isr=[1, 4])]
    image = holding(brokers(4), partition(1, (1, 4), (4, 2, 3, 1), adding=(4,), removing=(1,)))
    assert alter(image, wish(1, 4, 2)).records == [
        change(leader=4, replicas=[4, 2, 3], isr=[4, 2], adding=[], removing=[])
    ]
