"""The server-side assignors: everything assigned once, evenly, and with little movement."""

from collections.abc import Mapping
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.coordinators.groups.consumer.assignment import Assignment
from ottla.coordinators.groups.consumer.assignors import ASSIGNORS, Assignor, Subscriber, range_, uniform
from ottla.core.types import Uuid

A, B, C = (Uuid(letter * 16) for letter in (b"a", b"b", b"c"))
TOPICS = [Uuid(bytes([number]) * 16) for number in range(1, 6)]

counts = st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 12), min_size=1)
names = st.sampled_from([f"m{number}" for number in range(8)])
subscriptions = st.dictionaries(names, st.frozensets(st.sampled_from(TOPICS)), min_size=1)


def loads(assignment: Mapping[str, Assignment]) -> dict[str, int]:
    return {member: sum(map(len, partitions.values())) for member, partitions in assignment.items()}


def places(assignment: Mapping[str, Assignment]) -> dict[tuple[Uuid, int], str]:
    return {
        (topic_id, index): member
        for member, partitions in assignment.items()
        for topic_id, indices in partitions.items()
        for index in indices
    }


def run(
    assignor: Assignor,
    topics: Mapping[str, frozenset[Uuid]],
    partition_counts: Mapping[Uuid, int],
    former: Mapping[str, Assignment],
) -> dict[str, Assignment]:
    """One assignment, of which what always holds is checked."""
    members = {
        member: Subscriber(wanted & partition_counts.keys(), former.get(member, {}))
        for member, wanted in topics.items()
    }
    assignment = assignor(members, partition_counts)
    assert assignment.keys() == members.keys()
    given_out = [
        (topic_id, index)
        for member, partitions in assignment.items()
        for topic_id, indices in partitions.items()
        for index in indices
    ]
    wanted = frozenset().union(*(member.topics for member in members.values()))
    expected = {(topic_id, index) for topic_id in wanted for index in range(partition_counts[topic_id])}
    assert len(given_out) == len(set(given_out)), "a partition has two owners"
    assert set(given_out) == expected
    for member, partitions in assignment.items():
        assert partitions.keys() <= members[member].topics, "not subscribed"
        assert all(partitions.values()), "a topic without partitions"
    return assignment


@given(
    assignor=st.sampled_from(list(ASSIGNORS.values())), topics=subscriptions, partition_counts=counts, data=st.data()
)
def test_every_partition_goes_to_one_subscriber(
    assignor: Assignor, topics: dict[str, frozenset[Uuid]], partition_counts: dict[Uuid, int], data: st.DataObject
) -> None:
    former = run(assignor, data.draw(subscriptions), data.draw(counts), {})
    run(assignor, topics, partition_counts, former)


@given(topics=subscriptions, partition_counts=counts, data=st.data())
@settings(max_examples=300)
def test_uniform_cannot_be_more_even(
    topics: dict[str, frozenset[Uuid]], partition_counts: dict[Uuid, int], data: st.DataObject
) -> None:
    """No chain of members, of whom each could give one partition to the next, ends at one with two less."""
    former = run(uniform, data.draw(subscriptions), data.draw(counts), {})
    assignment = run(uniform, topics, partition_counts, former)
    load = loads(assignment)
    gives = {
        giver: {taker for taker, wanted in topics.items() if taker != giver and wanted & assignment[giver].keys()}
        for giver in topics
    }
    for start in topics:
        reachable, open_ones = {start}, [start]
        while open_ones:
            found = gives[open_ones.pop()] - reachable
            reachable |= found
            open_ones += found
        assert all(load[start] - load[end] <= 1 for end in reachable)


@given(
    members=st.sets(names, min_size=1),
    joined=st.sets(names),
    left=st.sets(names),
    partition_counts=counts,
    more=st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 5)),
)
@settings(max_examples=300)
def test_uniform_moves_no_more_than_it_must_when_all_subscribe_to_the_same(
    members: set[str], joined: set[str], left: set[str], partition_counts: dict[Uuid, int], more: dict[Uuid, int]
) -> None:
    everything = frozenset(TOPICS)
    before = run(uniform, dict.fromkeys(members, everything), partition_counts, {})
    following = (members | joined) - left or {"m0"}
    grown = {topic_id: count + more.get(topic_id, 0) for topic_id, count in partition_counts.items()}
    after = run(uniform, dict.fromkeys(following, everything), grown, before)
    load = loads(after)
    assert max(load.values()) - min(load.values()) <= 1
    # Whoever stays keeps all that fits into an even share; the larger shares go to those who have more already.
    share, larger = divmod(sum(grown.values()), len(following))
    had = sorted((sum(map(len, before.get(member, {}).values())) for member in following), reverse=True)
    most = sum(min(count, share + (position < larger)) for position, count in enumerate(had))
    kept = sum(places(after).get(place) == member for place, member in places(before).items() if member in following)
    assert kept == most


def test_uniform_spreads_each_topic_too() -> None:
    members = {name: Subscriber(frozenset({A, B}), {}) for name in "xyz"}
    assignment = uniform(members, {A: 3, B: 3})
    assert all({topic_id: len(part) for topic_id, part in one.items()} == {A: 1, B: 1} for one in assignment.values())
    more = {
        **{
            name: Subscriber(frozenset({A, B}), one) for name, one in uniform({"x": members["x"]}, {A: 4, B: 4}).items()
        },
        "y": members["y"],
    }
    halves = uniform(more, {A: 4, B: 4})
    assert all({topic_id: len(part) for topic_id, part in one.items()} == {A: 2, B: 2} for one in halves.values())


def test_uniform_hands_partitions_on_along_a_chain() -> None:
    """The one that has most shares no topic with the one that has least."""
    members = {
        "x": Subscriber(frozenset({A}), {A: frozenset({0, 1, 2})}),
        "y": Subscriber(frozenset({A, B}), {B: frozenset({0, 1})}),
        "z": Subscriber(frozenset({B}), {B: frozenset({2})}),
    }
    assert loads(uniform(members, {A: 3, B: 3})) == {"x": 2, "y": 2, "z": 2}


def test_range_gives_the_same_numbers_of_all_topics() -> None:
    members = {name: Subscriber(frozenset({A, B}), {}) for name in "zyx"}
    assert range_(members, {A: 7, B: 7}) == {
        "x": {A: frozenset({0, 1, 2}), B: frozenset({0, 1, 2})},
        "y": {A: frozenset({3, 4}), B: frozenset({3, 4})},
        "z": {A: frozenset({5, 6}), B: frozenset({5, 6})},
    }


def test_range_knows_static_members_by_their_instance() -> None:
    members = {
        "a": Subscriber(frozenset({A}), {}, "i2"),
        "z": Subscriber(frozenset({A}), {}, "i1"),
        "b": Subscriber(frozenset({A}), {}),
    }
    assert range_(members, {A: 3}) == {"z": {A: frozenset({0})}, "a": {A: frozenset({1})}, "b": {A: frozenset({2})}}


def test_range_gives_nothing_where_there_are_too_few_partitions() -> None:
    members = {name: Subscriber(frozenset({A, C}), {}) for name in "ab"}
    assert range_(members, {A: 1}) == {"a": {A: frozenset({0})}, "b": {}}


@given(topics=subscriptions, partition_counts=counts)
def test_range_shares_are_contiguous_and_even_in_each_topic(
    topics: dict[str, frozenset[Uuid]], partition_counts: dict[Uuid, int]
) -> None:
    assignment = run(range_, topics, partition_counts, {})
    for topic_id, count in partition_counts.items():
        subscribers = [member for member, wanted in sorted(topics.items()) if topic_id in wanted]
        if not subscribers:
            continue
        parts = [sorted(assignment[member].get(topic_id, ())) for member in subscribers]
        assert [index for part in parts for index in part] == list(range(count))
        assert all(len(first) >= len(second) for first, second in pairwise(parts))
        assert len(parts[0]) - len(parts[-1]) <= 1
