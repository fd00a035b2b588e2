"""A cluster as a mirror sees it."""

from typing import Any

import pytest

from ottla.mirror.config import ClusterConfig
from ottla.mirror.engine.side import Side


class Cluster:
    """A transport that is asked nothing but where nodes and topics are."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask_elsewhere(self) -> None:
        self.asked.append("elsewhere")

    async def describe_cluster(self) -> None:
        self.asked.append("cluster")

    async def describe_topics(self, *_: Any, **__: Any) -> tuple[list[Any], dict[str, Any]]:
        self.asked.append("topics")
        return [], {}


@pytest.mark.parametrize(
    ("protocol", "asked"), [("grpc", ["elsewhere", "cluster", "topics"]), ("kafka", ["elsewhere", "topics"])]
)
async def test_a_refresh_finds_nodes_that_came_later_whatever_the_protocol_tells_with_topics(
    protocol: Any, asked: list[str]
) -> None:
    side = Side(ClusterConfig(alias="a", bootstrap_servers=("localhost:1",), protocol=protocol), "test")
    await side.transport.close()
    cluster = Cluster()
    side.transport = cluster  # type: ignore[assignment]
    await side.refresh()
    assert cluster.asked == asked
