"""How a transport starts and closes."""

import grpc
import grpc.aio
import pytest

from ottla.core.errors import ConfigError
from ottla.core.types import NodeId
from ottla.raft.grpc_transport import GrpcTransport
from tests.integration.raft_transport.nodes import (
    CLUSTER,
    Node,
    Nodes,
    beat,
    connected,
    exchange,
    member,
    other_tasks,
    until,
)


async def test_a_closed_transport_leaves_no_task_and_delivers_nothing(start: Nodes) -> None:
    before = other_tasks()
    one, two, three = await start(1), await start(2), await start(3)
    for node in (one, two, three):
        node.reach(one, two, three)
    await connected(one, two, three)
    two.send(beat(2, 1))
    await one.transport.close()
    received = list(one.received)
    await until(lambda: two.lost_nodes() == {1} and three.lost_nodes() == {1})
    two.send(beat(2, 1))
    one.send(beat(1, 2))
    await one.stop()
    await two.stop()
    await three.stop()
    await until(lambda: other_tasks() <= before)
    assert one.received == received
    assert one.lost == []
    await one.transport.close()  # once more harms nothing


async def test_a_transport_that_is_not_started_takes_no_stream(start: Nodes) -> None:
    idle = Node(2)
    port = await idle.server.start("127.0.0.1", 0)
    one = await start(1)
    one.transport.reach({NodeId(2): f"127.0.0.1:{port}"})
    await until(lambda: one.lost_nodes() == {2})
    idle.transport.start(idle)
    idle.endpoint = f"127.0.0.1:{port}"
    await connected(one, idle)
    await idle.stop()


async def test_a_transport_can_live_on_a_server_with_other_services(start: Nodes) -> None:
    node = Node(2)
    server = grpc.aio.server()
    node.transport.add_to(server)
    node.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    node.transport.start(node)
    one = await start(1)
    one.reach(node)
    await connected(one, node)
    await exchange(one, node)
    await node.transport.close()
    await until(lambda: one.lost_nodes() == {2})
    await server.stop(None)


async def test_a_port_that_is_taken_is_a_clear_error(start: Nodes) -> None:
    one = await start(1)
    other = Node(2)
    with pytest.raises(ConfigError, match="choose another port"):
        await other.server.start("127.0.0.1", int(one.endpoint.rpartition(":")[2]))


def test_without_a_secret_there_is_no_transport() -> None:
    with pytest.raises(ConfigError, match="secret"):
        GrpcTransport(cluster_id=CLUSTER, member=member(1), secret=b"")
