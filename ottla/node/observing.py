"""What a node makes of what a voter tells it while it has no part in the quorum; and whom it keeps links with.

Every pair of nodes is linked, since leaders and coordinators ask each other: members of the quorum see to it
themselves, all others are reached where the image says that brokers are. Where the voters are is written into the data
directory whenever it changes, so that the node finds them after a restart, also when those that it was formatted with
are gone.
"""

from collections.abc import Mapping
from pathlib import Path

import structlog

from ottla.controller.controller import Controller
from ottla.controller.feed import Feed
from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.core.errors import ConfigError, StorageError
from ottla.core.ports import Mesh
from ottla.core.types import NodeId
from ottla.node.listeners import Endpoint
from ottla.node.peers import parse_peers
from ottla.raft.driver import RaftNode
from ottla.raft.quorum import Entry, Snapshot

logger = structlog.get_logger(__name__)

KNOWN_VOTERS = "quorum.peers"


class Observing:
    """Implements `ObservingNode`. `configured`: where the configuration says that nodes are, which counts first."""

    def __init__(
        self,
        raft: RaftNode,
        controller: Controller,
        feed: Feed,
        mesh: Mesh,
        path: Path,
        configured: Mapping[NodeId, str],
    ) -> None:
        self._raft, self._controller, self._feed = raft, controller, feed
        self._mesh, self._path, self._configured = mesh, path, configured
        self._voters = read_known_voters(path)
        self._brokers = self._brokers_of(controller.image)
        self._reach()
        controller.subscribe(self._published)

    @property
    def votes(self) -> bool:
        """Whether this node is a member of the quorum, as far as it knows."""
        return self._raft.core.member in self._raft.membership.members

    @property
    def has_own_log(self) -> bool:
        return self.votes and not self._feed.is_observing

    @property
    def own_leader(self) -> NodeId | None:
        return self._raft.leader

    @property
    def offset(self) -> int:
        return self._controller.image.offset

    def observed(self, item: Snapshot | Entry) -> None:
        self._feed.observed(item)

    def told_of_quorum(self, leader: NodeId | None, voters: Mapping[NodeId, str]) -> None:
        self._controller.told_leader = leader
        if voters and voters != self._voters:
            self._voters = dict(voters)
            self._reach()
            try:
                write_known_voters(self._path, voters)
            except OSError as error:  # they are told again after the next start, if one of the old ones is there
                logger.warning("where the voters are could not be written", error=str(error))

    def _published(self, image: MetadataImage, delta: MetadataDelta) -> None:
        if delta.brokers and (brokers := self._brokers_of(image)) != self._brokers:
            self._brokers = brokers
            self._reach()

    def _brokers_of(self, image: MetadataImage) -> dict[NodeId, str]:
        members = {member.node for member in self._raft.membership.members}  # whose places the quorum itself keeps
        return {
            broker.id: Endpoint(broker.internal.host, broker.internal.port).address
            for broker in image.brokers.values()
            if broker.internal is not None and broker.id not in members
        }

    def _reach(self) -> None:
        self._mesh.reach_also({**self._brokers, **self._voters, **self._configured})


def read_known_voters(directory: Path) -> dict[NodeId, str]:
    """Where the voters were when somebody last told; nothing in a directory of a founder. Raises StorageError."""
    path = directory / KNOWN_VOTERS
    if not path.exists():
        return {}
    try:
        return dict(parse_peers(path.read_text(encoding="utf-8").strip()))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise StorageError(f"{path} is damaged ({error}): write where voters are, as NODE@HOST:PORT,…") from error


def write_known_voters(directory: Path, voters: Mapping[NodeId, str]) -> None:
    """Replace the file at once. Its loss costs little, so it is not synced."""
    temporary = directory / f"{KNOWN_VOTERS}.tmp"
    temporary.write_text(",".join(f"{node}@{at}" for node, at in sorted(voters.items())) + "\n", encoding="utf-8")
    temporary.replace(directory / KNOWN_VOTERS)
