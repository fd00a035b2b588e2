"""`ottla topic reassign --to-nodes`: every node gets as much as any other."""

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.cli.reassign import spread_over
from ottla.core.errors import ConfigError


def topic(partitions: int, replicas: int) -> Any:
    parts = [SimpleNamespace(partition=n, replica_ids=tuple(range(replicas))) for n in range(partitions)]
    return cast(Any, SimpleNamespace(name="t", partitions=parts))


@pytest.mark.parametrize(("nodes", "replicas"), [(1, 1), (2, 2), (3, 2), (3, 3), (4, 3), (5, 3)])
def test_replicas_and_leaders_are_even(nodes: int, replicas: int) -> None:
    ids = [10 + n for n in range(nodes)]
    described = topic(nodes * 6, replicas)
    spread = [spread_over(described, index, ids) for index in range(nodes * 6)]
    assert all(len(set(one)) == replicas for one in spread)
    assert set(Counter(one[0] for one in spread).values()) == {6}
    assert set(Counter(node for one in spread for node in one).values()) == {6 * replicas}
    if 1 < replicas < nodes:
        followers = Counter(one[1] for one in spread if one[0] == 10)
        assert len(followers) == nodes - 1


def test_too_few_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 replicas"):
        spread_over(topic(1, 3), 0, [1, 2])
