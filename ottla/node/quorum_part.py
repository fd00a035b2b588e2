"""A node's part in the metadata quorum: its transport, its server for other nodes, the consensus on its disk.

Other nodes reach it at `internal_listener`, with consensus and with what they ask of the controller. `peers` says where
they are, for those whose place the quorum's own record of its members does not tell (any more).
"""

from typing import TYPE_CHECKING, Self

import structlog

from ottla.broker.control.control import Control
from ottla.controller.controller import Controller
from ottla.controller.feed import Feed
from ottla.core.errors import OttlaError
from ottla.core.ports import Clock, Disk, Random
from ottla.node.config import NodeConfig
from ottla.node.data_directory import DataDirectory
from ottla.node.listeners import Endpoint
from ottla.node.observing import Observing
from ottla.node.peers import parse_peers
from ottla.raft.acceptor import QuorumServer
from ottla.raft.driver import RaftNode, RaftSettings
from ottla.raft.grpc_transport import GrpcTransport
from ottla.raft.quorum import Member

if TYPE_CHECKING:
    from ottla.node.tls import Tls

logger = structlog.get_logger(__name__)

METADATA_DIRECTORY = "metadata"


class QuorumPart:
    """Opened, started, stopped; in this order."""

    def __init__(
        self, transport: GrpcTransport, raft: RaftNode, founders: int, observing: Observing, tls: "Tls | None"
    ) -> None:
        self.transport, self.raft = transport, raft
        self._tls = tls
        self._observing = observing
        self.founders = founders
        self.endpoint: Endpoint | None = None
        self._server = QuorumServer(transport)

    @classmethod
    def open(
        cls,
        config: NodeConfig,
        data: DataDirectory,
        controller: Controller,
        clock: Clock,
        random: Random,
        disk: Disk,
        tls: "Tls | None" = None,
    ) -> Self:
        """Read the journal. Blocks. Raises CorruptLog, StorageError."""
        member = Member(data.identity.node_id, data.identity.directory_id)
        bootstrap = data.bootstrap
        transport = GrpcTransport(
            cluster_id=data.identity.cluster_id,
            member=member,
            secret=data.secret,
            credentials=None if tls is None else tls.node_client_credentials,
        )
        feed = Feed(controller)
        raft = RaftNode.open(
            RaftSettings(directory=METADATA_DIRECTORY, member=member),
            feed,
            bootstrap=bootstrap,
            clock=clock,
            random=random,
            disk=disk,
            transport=transport,
        )
        controller.attach(raft)
        observing = Observing(raft, controller, feed, transport, data.path, parse_peers(config.peers))
        return cls(transport, raft, len(bootstrap.voters), observing, tls)

    def share_log(self, control: Control) -> None:
        """Tell other nodes of the log while this one votes, and learn of it from them while it does not."""
        control.observe(self.raft, self._observing, votes=lambda: self._observing.votes)

    async def start(self, listener: Endpoint) -> None:
        """Listen for other nodes, and take part. Raises ConfigError when the port is taken."""
        host = loopback_or(listener.host)
        credentials = None if self._tls is None else self._tls.node_server_credentials()
        port = await self._server.start(host, listener.port, credentials)
        self.endpoint = Endpoint(host, port)
        self.raft.start()
        if self.founders == 1:
            await self.raft.until_led()  # by itself: nobody else has to come first

    @property
    def role(self) -> str:
        """`leader`, `voter`, `learner` (a voter to be), or `observer`."""
        if self.raft.is_leader:
            return "leader"
        member, membership = self.raft.core.member, self.raft.membership
        if member in membership.voters:
            return "voter"
        return "learner" if member in membership.learners else "observer"

    async def hand_over(self) -> None:
        """Have another voter lead, if this one does and another is there."""
        core = self.raft.core
        successor = core.best_successor() if self.raft.is_leader else None
        if successor is None or not self.transport.is_linked(successor.node):
            return
        try:
            await self.raft.transfer_leadership(successor.node)
        except OttlaError as error:  # they elect one by themselves
            logger.info("the quorum's lead was not handed over", error=str(error))

    async def stop(self) -> None:
        """End; see `hand_over` for what comes before."""
        await self.raft.close()
        await self._server.stop()


def loopback_or(host: str) -> str:
    """Nodes name each other one address: localhost is its first one."""
    return "127.0.0.1" if host == "localhost" else host
