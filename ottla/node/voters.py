"""The members that a quorum begins with, in the text form of Kafka's `--initial-controllers`:

    1@localhost:12092:J8qXRwI-Qyi2G0guFTiuYw,2@localhost:12093:…

node id, internal endpoint and directory id. A cluster's first nodes are all formatted with the same list; from then on
the quorum itself knows who belongs to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ottla.core.errors import ConfigError, StorageError
from ottla.core.types import NodeId, Uuid, format_uuid, parse_uuid

if TYPE_CHECKING:
    from ottla.raft.core.membership import Membership

MAX_VOTERS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Voter:
    """One of them."""

    node_id: NodeId
    endpoint: str  # host:port
    directory_id: Uuid

    def __str__(self) -> str:
        return f"{self.node_id}@{self.endpoint}:{format_uuid(self.directory_id)}"


def parse_voters(text: str) -> tuple[Voter, ...]:
    """Comma- or line-separated; raises ConfigError."""
    voters = tuple(_parse(part) for line in text.splitlines() for part in filter(None, map(str.strip, line.split(","))))
    if not 1 <= len(voters) <= MAX_VOTERS:
        raise ConfigError(f"{len(voters)} voters: a quorum begins with 1 to {MAX_VOTERS}, usually 3")
    if len({voter.node_id for voter in voters}) < len(voters):
        raise ConfigError("a node stands twice among the voters: give each node an id of its own")
    return voters


def _parse(text: str) -> Voter:
    node, _, rest = text.partition("@")
    endpoint, _, directory = rest.rpartition(":")
    host, _, port = endpoint.rpartition(":")
    if host and node.isdigit() and port.isdigit() and 0 < int(port) < 1 << 16:
        try:
            return Voter(node_id=NodeId(int(node)), endpoint=endpoint, directory_id=parse_uuid(directory))
        except ValueError:
            pass
    raise ConfigError(f"{text!r} is no voter: write ID@HOST:PORT:DIRECTORY-ID")


def membership(voters: Iterable[Voter]) -> "Membership":
    """What the quorum begins with."""
    from ottla.raft.core.membership import Member, Membership  # not for who only formats directories

    members = {Member(voter.node_id, voter.directory_id): voter.endpoint for voter in voters}
    return Membership(frozenset(members), endpoints=members)


def encode(voters: Sequence[Voter]) -> bytes:
    """The file's content."""
    return "".join(f"{voter}\n" for voter in voters).encode()


def read(path: Path) -> tuple[Voter, ...]:
    """The file's voters; none in the directory of a node that waits to be added. Raises StorageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error
    if not text.strip():
        return ()
    try:
        return parse_voters(text)
    except ConfigError as error:
        raise StorageError(f"{path} is damaged ({error}): copy it from another node of the cluster") from error
