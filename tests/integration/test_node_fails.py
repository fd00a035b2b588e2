"""A node of several whose metadata log cannot be written ends, so that it is seen and the others go on without it."""

import asyncio
import socket
from pathlib import Path

from ottla.core.types import NodeId
from ottla.node.config import Layer, NodeConfig
from ottla.node.founding import Place, found, free_ports
from ottla.node.process import EXIT_CLEAN, EXIT_FAILED, _Life

WAIT_S = 30


def configs(directory: Path) -> list[NodeConfig]:
    ports = free_ports("127.0.0.1", 2)
    places = [
        Place(node_id=NodeId(n), path=directory / f"node-{n}", internal=f"127.0.0.1:{port}")
        for n, port in enumerate(ports, 1)
    ]
    found(places, fresh=False)
    return [
        NodeConfig.load(
            flags=Layer(
                origin="flag",
                node={
                    "node_id": place.node_id,
                    "data_dir": str(place.path),
                    "listeners": "PLAINTEXT://127.0.0.1:0",
                    "grpc_listener": "127.0.0.1:0",
                    "http_listener": "",
                    "internal_listener": place.internal,
                    "replication_listener": "127.0.0.1:0",
                },
            ),
            environment={},
        )
        for place in places
    ]


async def test_a_failed_metadata_log_ends_the_process_with_a_failure(tmp_path: Path) -> None:
    first, second = (_Life(config, fresh=False, parent=None) for config in configs(tmp_path))
    running = [asyncio.ensure_future(life.live()) for life in (first, second)]
    async with asyncio.timeout(WAIT_S):
        while not all(  # noqa: ASYNC110 - as anybody outside would look
            life._node is not None and life._node.health()["status"] == "ok" for life in (first, second)
        ):
            await asyncio.sleep(0.05)
        assert first._node is not None
        first._node._quorum.raft._fail(OSError(28, "No space left on device"))
        assert await running[0] == EXIT_FAILED
        second._stop.set()
        second._together = True
        await running[1]


async def test_a_node_that_waits_for_a_majority_can_be_stopped(tmp_path: Path) -> None:
    alone = _Life(configs(tmp_path)[0], fresh=False, parent=None)
    running = asyncio.ensure_future(alone.live())
    async with asyncio.timeout(WAIT_S):
        while alone._node is None or not hasattr(alone._node, "_grpc_advertised"):  # noqa: ASYNC110 - it is to register
            await asyncio.sleep(0.05)
        assert alone._node.health()["status"] == "starting"
        alone._ask_to_stop("a signal")
        assert await running == EXIT_CLEAN
    assert alone._node.health()["status"] == "stopped"


def test_free_ports_are_free() -> None:
    for port in free_ports("127.0.0.1", 3):
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_free_ports_are_none_that_the_system_gives_to_outgoing_connections() -> None:
    """One that the system could give away while its node is down might keep the node from coming back."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as outgoing:
        given = min(server.getsockname()[1], outgoing.getsockname()[1])
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert given >= lowest
        assert max(free_ports("127.0.0.1", 50)) < lowest
