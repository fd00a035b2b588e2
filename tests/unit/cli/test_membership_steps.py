"""Where the replicas of a node go that leaves, whenever the moves end."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from ottla.cli.membership_steps import drain, moves_away
from ottla.client import TopicPartition
from ottla.client.operations import Reassignment
from ottla.client.types import ClusterDescription, Node, PartitionDescription, TopicDescription
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


class Moving:
    """The admin client of a cluster whose moves take `calls` more calls; it has the nodes 1 to 5."""

    def __init__(self, replicas: tuple[int, ...], calls: int) -> None:
        self.replicas, self._calls = replicas, calls
        self._target: tuple[int, ...] | None = None
        self._left = 0

    def begin(self, target: Sequence[int]) -> None:
        self._target, self._left = tuple(target), self._calls

    def _called(self) -> None:
        if self._target is not None:
            self._left -= 1
            if self._left < 0:
                self.replicas, self._target = self._target, None

    @property
    def _shown(self) -> tuple[int, ...]:
        """While it moves: the old replicas and the new ones, as Kafka shows them."""
        target = self._target or ()
        return (*self.replicas, *(one for one in target if one not in self.replicas))

    async def describe_topics(self) -> list[TopicDescription]:
        self._called()
        return [topic(self._shown)]

    async def describe_cluster(self) -> ClusterDescription:
        self._called()
        return ClusterDescription(cluster_id="", controller_id=2, nodes=tuple(node(n) for n in (1, 2, 3, 4, 5)))

    async def list_reassignments(self) -> dict[TopicPartition, Reassignment]:
        self._called()
        if self._target is None:
            return {}
        return {
            TopicPartition("t", 0): Reassignment(
                replica_ids=self._shown,
                adding_replica_ids=tuple(one for one in self._target if one not in self.replicas),
                removing_replica_ids=tuple(one for one in self.replicas if one not in self._target),
            )
        }

    async def alter_reassignments(self, replicas: Mapping[TopicPartition, Sequence[int]]) -> None:
        self.begin(replicas[TopicPartition("t", 0)])


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.cli.membership_steps.LOOK_S", 0.0)


@pytest.mark.parametrize("calls", range(12))
async def test_a_partition_has_as_many_replicas_as_before_whenever_its_move_ends(calls: int) -> None:
    cluster = Moving((1, 2, 3), calls)
    await drain(cast(Any, cluster), 1)
    assert sorted(cluster.replicas) == [2, 3, 4]


@pytest.mark.parametrize("calls", range(12))
async def test_a_move_to_the_node_that_somebody_else_began_is_led_elsewhere(calls: int) -> None:
    cluster = Moving((2, 3, 4), calls)
    cluster.begin((1, 2, 3))
    await drain(cast(Any, cluster), 1)
    assert len(cluster.replicas) == 3
    assert 1 not in cluster.replicas
