"""A node of a quorum's transport in a process of its own, for tests that kill or stop it: `peer.py NODE PORT`.

Answers every heartbeat, and says on standard output where it listens. Ends with its standard input.
"""

import asyncio
import sys

from ottla.core.types import NodeId, Uuid
from ottla.raft.acceptor import QuorumServer
from ottla.raft.core.member import Member
from ottla.raft.core.messages import Heartbeat, HeartbeatResponse, Message
from ottla.raft.grpc_transport import GrpcTransport

CLUSTER = Uuid(b"the test cluster")
SECRET = b"the cluster's secret"


def member(node: int) -> Member:
    return Member(NodeId(node), Uuid(bytes([node]) * 16))


class Echo:
    """Answers heartbeats."""

    def __init__(self, node: int) -> None:
        self.transport = GrpcTransport(cluster_id=CLUSTER, member=member(node), secret=SECRET)

    def receive(self, message: Message) -> None:
        if isinstance(message, Heartbeat):
            self.transport.send(
                HeartbeatResponse(source=message.target, target=message.source, term=message.term, round=message.round)
            )

    def unreachable(self, node: NodeId) -> None:
        pass

    def connected(self, node: NodeId) -> None:
        pass


async def main(node: int, port: int) -> None:
    echo = Echo(node)
    server = QuorumServer(echo.transport)
    echo.transport.start(echo)
    print(await server.start("127.0.0.1", port), flush=True)  # noqa: T201
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):  # what peers there are: NODE HOST:PORT
        reached, _, endpoint = line.partition(" ")
        echo.transport.reach({NodeId(int(reached)): endpoint.strip()})
    await echo.transport.close()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
