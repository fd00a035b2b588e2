"""One node of the store, in a process of its own: the store, the quorum that replicates it, the door for clients.

This is all that it takes to use `ottla.raft`: a state machine, the ports (clock, random numbers, disk), a transport,
and `RaftNode`, which is the `Quorum` that everything else asks.
"""

import asyncio
import gc
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from examples.kv.cluster import HOST, Cluster
from examples.kv.door import Door
from examples.kv.store import KeyValueStore
from ottla.adapters.clock import LoopClock
from ottla.adapters.disk import ThreadedDisk
from ottla.core.errors import OttlaError
from ottla.core.types import Uuid
from ottla.node.lifeline import watch_parent
from ottla.node.limits import set_switch_interval
from ottla.node.logs import configure
from ottla.node.process import GC_THRESHOLD
from ottla.raft.acceptor import QuorumServer
from ottla.raft.driver import RaftNode, RaftSettings
from ottla.raft.grpc_transport import GrpcTransport

HAND_OVER_S = 1.0


class Node:
    """Started and stopped once, on one loop."""

    def __init__(self, cluster: Cluster, node: int, *, on_failure: Callable[[], None]) -> None:
        self.cluster, self.node = cluster, node
        self.store = KeyValueStore()
        self.has_failed = False
        self._on_failure = on_failure
        self._cleanups = AsyncExitStack()

    async def start(self) -> None:
        """Raises WrongDirectory, OttlaError (the journal is damaged) or OSError (a port is taken)."""
        cluster, place = self.cluster, self.cluster.nodes[self.node]
        cluster.check_directory(self.node)
        loop = asyncio.get_running_loop()
        disk = ThreadedDisk(loop, str(cluster.node_path(self.node)), threads=2)
        self._cleanups.callback(disk.close)
        transport = GrpcTransport(cluster_id=Uuid(cluster.cluster_id), member=place.member, secret=cluster.secret)
        self.quorum = RaftNode.open(
            RaftSettings(directory="quorum", member=place.member),
            self.store,
            bootstrap=cluster.membership,
            clock=LoopClock(loop),
            random=random.SystemRandom(),
            disk=disk,
            transport=transport,
        )
        self.quorum.on_failure = self._fail
        server = QuorumServer(transport)
        await server.start(HOST, place.quorum_port)
        self._cleanups.push_async_callback(server.stop)
        self.quorum.start()
        self._cleanups.push_async_callback(self.quorum.close)
        door = Door(self.node, self.quorum, self.store)
        await door.open(HOST, place.client_port)
        self._cleanups.push_async_callback(door.close)
        self._cleanups.push_async_callback(self._hand_over)

    async def stop(self) -> None:
        await self._cleanups.aclose()

    async def _hand_over(self) -> None:
        """A leader that stops need not be missed first."""
        if self.quorum.is_leader:
            others = [node for node in self.cluster.nodes if node != self.node]
            with suppress(OttlaError, TimeoutError):
                async with asyncio.timeout(HAND_OVER_S):
                    await self.quorum.transfer_leadership(self.cluster.nodes[random.choice(others)].member.node)

    def _fail(self, _: Exception) -> None:
        """The disk failed, and the quorum has said so in the log: this process is of no use any more."""
        self.has_failed = True
        self._on_failure()


async def live(cluster: Cluster, node: int, *, ends_with_stdin: bool) -> int:
    """From start to stop; the exit code."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    if ends_with_stdin:
        watch_parent(loop, sys.stdin.fileno(), told.set)
    running = Node(cluster, node, on_failure=told.set)
    try:
        await running.start()
        print(f"node {node} serves clients at {cluster.nodes[node].clients}", flush=True)
        gc.freeze()  # what the start has made stays, and what follows leaves no cycles behind
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        await told.wait()
        return 1 if running.has_failed else 0
    finally:
        await running.stop()


def run(cluster: Cluster, node: int, *, ends_with_stdin: bool = False) -> int:
    """Run one node until it is told to stop; the process's exit code."""
    import uvloop

    configure("info", "text")
    set_switch_interval(500)  # a thread that has synced must not wait long for a busy loop
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(live(cluster, node, ends_with_stdin=ends_with_stdin))
    except (OttlaError, OSError) as error:
        print(f"node {node}: {error}", file=sys.stderr)
        return 1


def exit_at_once(code: int) -> None:
    """Everything is written and closed; taking the interpreter apart would only take time."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
