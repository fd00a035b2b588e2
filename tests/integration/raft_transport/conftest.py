"""Nodes that stop with their test, and leave no task behind."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.raft_transport.nodes import (
    Nodes,
    other_tasks,
    until,
)


@pytest.fixture
async def start() -> AsyncIterator[Nodes]:
    before = other_tasks()
    nodes = Nodes()
    yield nodes
    await nodes.stop()
    await until(lambda: other_tasks() <= before)  # gRPC's own end with their streams
