"""Where the replicas of a node go that leaves."""

import pytest

from ottla.cli.membership_steps import moves_away
from ottla.client import TopicPartition
from ottla.client.types import Node, PartitionDescription, TopicDescription
from ottla.core.errors import ConfigError


def topic(*replicas: tuple[int, ...]) -> TopicDescription:
    partitions = tuple(
        PartitionDescription(partition=n, leader_id=of[0], leader_epoch=1, replica_ids=of, in_sync_replica_ids=of)
        for n, of in enumerate(replicas)
    )
    return TopicDescription(name="t", topic_id="", internal=False, partitions=partitions)


def node(number: int, rack: str | None = None, *, fenced: bool = False, stopping: bool = False) -> Node:
    return Node(node_id=number, host="", port=0, rack=rack, fenced=fenced, stopping=stopping)


def moves(topics: list[TopicDescription], nodes: list[Node], leaving: int) -> dict[int, list[int]]:
    return {partition: to for (_, partition), to in moves_away(topics, nodes, leaving).items()}


def test_each_replica_goes_in_its_place_to_the_node_with_the_fewest() -> None:
    topics = [topic((1, 2, 3), (2, 1, 3), (4, 2, 3))]
    assert moves(topics, [node(n) for n in (1, 2, 3, 4, 5)], 1) == {0: [5, 2, 3], 1: [2, 4, 3]}


def test_a_rack_of_its_own_comes_before_a_low_count() -> None:
    nodes = [node(1, "a"), node(2, "b"), node(3, "b"), node(4, "c")]
    assert moves([topic((1, 2), (4, 2), (4, 2))], nodes, 1) == {0: [4, 2]}


def test_nodes_that_are_gone_or_go_get_nothing() -> None:
    nodes = [node(1), node(2), node(3, fenced=True), node(4, stopping=True), node(5)]
    assert moves([topic((1, 2))], nodes, 1) == {0: [5, 2]}


def test_partitions_of_others_stay() -> None:
    assert moves_away([topic((2, 3))], [node(n) for n in (1, 2, 3)], 1) == {}


def test_too_few_nodes_are_told() -> None:
    with pytest.raises(ConfigError, match=r"t-0 has 3 replicas, and besides node 1 only 2 node\(s\)"):
        moves_away([topic((1, 2, 3))], [node(n) for n in (1, 2, 3)], 1)


def test_the_partition_is_named() -> None:
    assert list(moves_away([topic((1,))], [node(1), node(2)], 1)) == [TopicPartition("t", 0)]
