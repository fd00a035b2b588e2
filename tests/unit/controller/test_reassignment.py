import pytest

from ottla.controller.decision import Decision
from ottla.controller.image import MetadataImage
from ottla.controller.reassignment import alter_partition_reassignments, list_partition_reassignments
from ottla.controller.requests import OngoingReassignment, PartitionError, Reassignment
from ottla.core.error_codes import ErrorCode
from tests.unit.controller.cluster import configs, image_of
from tests.unit.controller.states import TOPIC, brokers, change, fenced, holding, nodes, partition


def move(
    image: MetadataImage, *replicas: int, cancel: bool = False, any_factor: bool = True
) -> Decision[list[PartitionError]]:
    wanted = Reassignment(topic=TOPIC, partition=0, replicas=None if cancel else replicas)
    return alter_partition_reassignments(image, configs(image), [wanted], allow_replication_factor_change=any_factor)


def error(decision: Decision[list[PartitionError]]) -> ErrorCode | None:
    (one,) = decision.result
    return one.error.code if one.error is not None else None


def test_the_target_comes_first_and_what_will_go_stays_until_then() -> None:
    image = holding(brokers(5), partition(1, (1, 2, 3)))
    decision = move(image, 5, 4, 3)
    assert error(decision) is None
    assert decision.records == [change(replicas=[5, 4, 3, 1, 2], adding=[5, 4], removing=[1, 2])]


def test_another_order_of_the_same_replicas_needs_no_copies() -> None:
    image = holding(brokers(), partition(1, (1, 2, 3)))
    assert move(image, 3, 2, 1).records == [change(replicas=[3, 2, 1])]
    assert move(image, 1, 2, 3).records == []


def test_replicas_that_only_go_are_gone_at_once_and_a_leader_among_them_is_replaced() -> None:
    image = holding(brokers(), partition(1, (1, 2, 3)))
    assert move(image, 2, 3).records == [change(leader=2, isr=[2, 3], replicas=[2, 3])]
    assert move(image, 1, 3).records == [change(leader=1, isr=[1, 3], replicas=[1, 3])]


def test_replicas_do_not_go_while_they_are_needed_in_sync() -> None:
    image = holding(brokers(), partition(1, (1, 2)))
    assert move(image, 1, 3).records == [change(replicas=[1, 3, 2], removing=[2])]


def test_a_new_target_lets_go_at_once_of_what_was_only_being_added() -> None:
    moving = partition(2, (2, 3, 1), (4, 2, 3, 1), adding=(4,), removing=(1,))
    image = holding(brokers(5), moving)
    assert move(image, 5, 2, 3).records == [change(leader=2, replicas=[5, 2, 3, 1], adding=[5])]


def test_cancelling_gives_back_the_replicas_from_before_and_ends_what_an_added_leader_led() -> None:
    moving = partition(4, (2, 3, 1, 4), (4, 5, 2, 3, 1), adding=(4, 5), removing=(1,))
    image = holding(brokers(5), moving)
    assert move(image, cancel=True).records == [
        change(leader=2, isr=[2, 3, 1], replicas=[2, 3, 1], adding=[], removing=[])
    ]


def test_cancelling_is_refused_when_only_added_replicas_are_in_sync() -> None:
    moving = partition(4, (4,), (4, 2, 3, 1), adding=(4,), removing=(1,))
    assert error(move(holding(brokers(4), moving), cancel=True)) is ErrorCode.INVALID_REPLICA_ASSIGNMENT


def test_a_dead_brokers_replica_is_moved_once_others_are_enough() -> None:
    image = image_of([fenced(1)], base=holding(brokers(4), partition(2, (2, 3))))
    assert move(image, 4, 2, 3).records == [change(replicas=[4, 2, 3, 1], adding=[4], removing=[1])]


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ((), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ((1, 1), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ((1, 9), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ((1, -1), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_targets_that_are_refused(replicas: tuple[int, ...], expected: ErrorCode) -> None:
    decision = move(holding(brokers(), partition(1, (1, 2, 3))), *replicas)
    assert (error(decision), decision.records) == (expected, [])


def test_the_replication_factor_changes_only_where_that_is_allowed() -> None:
    image = holding(brokers(4), partition(1, (1, 2, 3)))
    assert error(move(image, 1, 2, any_factor=False)) is ErrorCode.INVALID_REPLICATION_FACTOR
    assert error(move(image, 1, 2, 4, any_factor=False)) is None
    moving = holding(brokers(4), partition(1, (1, 2, 3), (4, 2, 3, 1), adding=(4,), removing=(1,)))
    assert error(move(moving, 4, 2, 1, any_factor=False)) is None
    assert error(move(moving, cancel=True, any_factor=False)) is None


def test_each_partition_of_a_request_fails_by_itself() -> None:
    image = holding(brokers(4), partition(1, (1, 2, 3)), partition(1, (1, 2, 3), index=1))
    wanted = [
        Reassignment(topic="b", partition=0, replicas=[1]),
        Reassignment(topic=TOPIC, partition=2, replicas=[1]),
        Reassignment(topic=TOPIC, partition=0, replicas=None),
        Reassignment(topic=TOPIC, partition=1, replicas=[4, 2, 3]),
    ]
    decision = alter_partition_reassignments(image, configs(image), wanted)
    assert [one.error and one.error.code for one in decision.result] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
        None,
    ]
    twice = alter_partition_reassignments(image, configs(image), wanted[3:] * 2)
    assert [one.error and one.error.code for one in twice.result] == [ErrorCode.INVALID_REQUEST] * 2


def test_what_is_under_way_is_listed() -> None:
    moving = partition(1, (1, 2, 3), (4, 2, 3, 1), adding=(4,), removing=(1,))
    image = holding(brokers(4), moving, partition(1, (1, 2, 3), index=1))
    expected = [
        OngoingReassignment(topic=TOPIC, partition=0, replicas=nodes(4, 2, 3, 1), adding=nodes(4), removing=nodes(1))
    ]
    assert list_partition_reassignments(image, None) == expected
    assert list_partition_reassignments(image, [(TOPIC, 0), (TOPIC, 1), ("b", 0)]) == expected
    assert list_partition_reassignments(image, [(TOPIC, 1)]) == []
