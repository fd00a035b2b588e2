from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.create_topics import create_topics
from ottla.controller.placement import place
from ottla.controller.requests import NewTopic
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from tests.unit.controller.cluster import IdSource, configs
from tests.unit.controller.states import brokers


def test_leaders_take_turns_and_their_followers_too() -> None:
    assert place(brokers(), 0, 7, 3) == [
        (1, 2, 3),
        (2, 3, 1),
        (3, 1, 2),
        (1, 3, 2),
        (2, 1, 3),
        (3, 2, 1),
        (1, 2, 3),
    ]


def test_turns_go_on_where_the_last_topic_ended() -> None:
    image = brokers()
    new = [NewTopic(name=name, partitions=1, replication_factor=1) for name in "abcd"]
    records = create_topics(image, configs(image), new, IdSource(), 1).records
    assert [list(one.partition.replicas) for one in records if one.HasField("partition")] == [[2], [3], [1], [2]]


def test_replicas_are_spread_over_racks_and_racks_alternate() -> None:
    image = brokers(6, racks=["x", "x", "x", "y", "y", "z"])
    assert place(image, 0, 6, 3) == [(1, 4, 6), (4, 6, 2), (6, 2, 5), (2, 5, 6), (5, 3, 6), (3, 4, 6)]


def test_brokers_without_a_rack_are_one_rack() -> None:
    image = brokers(4, racks=[None, None, "x", "x"])
    for replicas in place(image, 0, 8, 2):
        assert sum(node > 2 for node in replicas) == 1


def test_a_broker_that_is_away_gets_replicas_only_when_it_is_needed_and_never_leads() -> None:
    image = brokers(4, fenced=[1], stopping=[2])
    assert place(image, 0, 2, 2) == [(3, 4), (4, 3)]
    assert place(image, 0, 2, 3) == [(3, 4, 1), (4, 3, 1)]
    records = create_topics(
        image, configs(image), [NewTopic(name="a", partitions=1, replication_factor=4)], IdSource()
    ).records
    created = records[1].partition
    assert (created.leader, list(created.replicas), list(created.isr)) == (3, [3, 4, 1, 2], [3, 4])


@pytest.mark.parametrize(("away", "factor"), [((), 4), ((1, 2, 3), 1)])
def test_what_cannot_be_placed(away: tuple[int, ...], factor: int) -> None:
    with pytest.raises(ApiError) as caught:
        place(brokers(fenced=away), 0, 1, factor)
    assert caught.value.code is ErrorCode.INVALID_REPLICATION_FACTOR


def test_a_manual_assignment_needs_one_replica_that_is_there() -> None:
    image = brokers(fenced=[1, 2])
    (refused,) = create_topics(
        image, configs(image), [NewTopic(name="a", assignments=[(0, [1, 2])])], IdSource()
    ).result
    assert refused.error is not None
    assert refused.error.code is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    records = create_topics(image, configs(image), [NewTopic(name="a", assignments=[(0, [1, 3])])], IdSource()).records
    assert (records[1].partition.leader, list(records[1].partition.isr)) == (3, [3])


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 100), st.integers(1, 60), st.data())
def test_every_placement_is_even_and_uses_as_many_racks_as_there_are(
    count: int, racks: int, start: int, partitions: int, data: st.DataObject
) -> None:
    factor = data.draw(st.integers(1, count))
    of_rack = [str(node % racks) for node in range(count)]
    placed = place(brokers(count, racks=of_rack), start, partitions, factor)
    leaders = Counter(int(replicas[0]) for replicas in placed)
    assert max(leaders.values()) - min(leaders[node] for node in range(1, count + 1)) <= 1
    for replicas in placed:
        assert len(set(replicas)) == factor
        assert len({of_rack[node - 1] for node in replicas}) == min(factor, len(set(of_rack)))
