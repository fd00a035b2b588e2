from ottla.controller.elect_leaders import balance_leaders, elect_leaders
from ottla.controller.image import LeaderRecovery, MetadataImage
from ottla.controller.requests import ElectionType
from ottla.core.error_codes import ErrorCode
from tests.unit.controller.cluster import configs, image_of
from tests.unit.controller.states import TOPIC, TOPIC_ID, brokers, change, changes, fenced, holding, partition

PREFERRED, UNCLEAN = ElectionType


def cluster() -> MetadataImage:
    """Broker 3 is away."""
    image = holding(
        brokers(),
        partition(2, (1, 2)),
        partition(1, (1, 2), index=1),
        partition(2, (2,), index=2),
        partition(2, (2, 1), (3, 2, 1), index=3),
        partition(-1, (3,), index=4),
        partition(-1, (3,), (3,), index=5),
        partition(2, (2, 1), index=6),
    )
    return image_of([fenced(3)], base=image)


def outcome(
    election: ElectionType, partitions: list[tuple[str, int]] | None
) -> tuple[list[tuple[int, ErrorCode | None]], list[object]]:
    image = cluster()
    decision = elect_leaders(image, configs(image), election, partitions)
    return [(one.partition, one.error.code if one.error else None) for one in decision.result], list(decision.records)


def test_preferred_leaders_are_elected_where_they_are_in_sync() -> None:
    wanted = [(TOPIC, index) for index in range(4)] + [(TOPIC, 9), (TOPIC, 0)]
    assert outcome(PREFERRED, wanted) == (
        [
            (0, None),
            (1, ErrorCode.ELECTION_NOT_NEEDED),
            (2, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE),
            (3, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE),
            (9, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ],
        [change(leader=1)],
    )


def test_of_all_partitions_only_those_are_told_that_needed_one() -> None:
    told, records = outcome(PREFERRED, None)
    assert [partition for partition, error in told if error is None] == [0, 6]
    assert 1 not in [partition for partition, _ in told]
    assert records == [changes({TOPIC_ID: [0, 6]}, leader=1)]


def test_an_unclean_leader_is_elected_only_where_there_is_none() -> None:
    told, records = outcome(UNCLEAN, [(TOPIC, 0), (TOPIC, 4), (TOPIC, 5)])
    assert told == [
        (0, ErrorCode.ELECTION_NOT_NEEDED),
        (4, None),
        (5, ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE),
    ]
    assert records == [change(4, leader=1, isr=[1], leader_recovery_state=LeaderRecovery.RECOVERING)]


def test_leaders_are_balanced_a_limited_number_at_a_time() -> None:
    image = cluster()
    assert (balance_leaders(image).result, balance_leaders(image).records) == (
        2,
        [changes({TOPIC_ID: [0, 6]}, leader=1)],
    )
    assert (balance_leaders(image, 1).result, balance_leaders(image, 1).records) == (1, [change(0, leader=1)])
    balanced = image_of(balance_leaders(image).records, base=image)
    assert (balance_leaders(balanced).result, balance_leaders(balanced).records) == (0, [])
