"""A node's data directory: who owns it, who it belongs to, and which format it has.

`meta.properties` is Kafka's (cluster id, node id, directory id); `quorum.voters` says with whom the cluster began, and
`cluster.secret` is the same on all of its nodes. The marker `ottla.format` says that Ottla made the
directory and in which version; a newer version is refused, and `--fresh` deletes nothing that lacks the marker. The
lock is an flock, so it ends with the process that holds it, however that ends.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ottla.core.errors import StorageError
from ottla.core.types import NodeId, Uuid, format_uuid, parse_uuid
from ottla.node.voters import Voter, membership
from ottla.node.voters import encode as encode_voters
from ottla.node.voters import read as read_voters

if TYPE_CHECKING:
    from ottla.raft.core.membership import Membership

FORMAT_VERSION = 2  # 1: pre-releases, whose metadata log was another one
MARKER = "ottla.format"
META = "meta.properties"
LOCK = ".lock"
SECRET = "cluster.secret"
VOTERS = "quorum.voters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose data this is."""

    cluster_id: Uuid
    node_id: NodeId
    directory_id: Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Formatting:
    """What a node of a cluster is formatted with. `voters` and `secret` are the same on each of its first nodes; no
    voters: the node waits to be added to a cluster that there is.
    """

    identity: Identity
    secret: bytes
    voters: tuple[Voter, ...]


class DataDirectory:
    """An open, locked data directory. Raises StorageError, which says what to do."""

    def __init__(self, path: Path, identity: Identity, lock: int, *, is_new: bool) -> None:
        self.path = path
        self.identity = identity
        self.is_new = is_new
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: Path,
        node_id: NodeId,
        *,
        fresh: bool = False,
        cluster_id: Uuid | None = None,
        others: Collection[NodeId] = (),
    ) -> "DataDirectory":
        """Lock the directory, and format it when it is new; `fresh` empties it first, if it bears the marker.

        `others`: nodes of the cluster that this one is known to belong to. Then a new directory is a lost disk, or one
        that nobody formatted yet: by itself the node would found another cluster where clients look for theirs.
        """
        _make(path)
        lock = _lock(path)
        try:
            if fresh:
                _empty(path)
            is_new = not (path / MARKER).exists()
            if is_new:
                _check_alone(path, node_id, others)
                alone = Identity(cluster_id=cluster_id or random_uuid(), node_id=node_id, directory_id=random_uuid())
                _format(path, alone, _new_secret(path), None)
            _check_format(path)
            identity = _read_identity(path)
            _check_owner(path, identity, node_id, cluster_id)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, identity, lock, is_new=is_new)

    @property
    def secret(self) -> bytes:
        """What nodes of this cluster prove to each other that they know."""
        return (self.path / SECRET).read_bytes().strip()

    @property
    def bootstrap(self) -> "Membership":
        """The members that this node's quorum began with; nobody, when it waits to be added."""
        if not (self.path / VOTERS).exists():
            from ottla.raft.core.membership import Member, Membership  # not for who only formats directories

            return Membership(frozenset([Member(self.identity.node_id, self.identity.directory_id)]))
        return membership(read_voters(self.path / VOTERS))

    def close(self) -> None:
        """Give up the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "DataDirectory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _check_alone(path: Path, node_id: NodeId, others: Collection[NodeId]) -> None:
    if others:
        raise StorageError(
            f"{path} holds no data, and node {node_id} has peers. If it is new, format it: `ottla node format --join`; "
            f"if its disk is lost, let it come back with an empty one: `ottla node replace {node_id}`"
        )


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StorageError(f"{path} is a file: choose another data directory (--dir)") from None
    except OSError as error:
        raise StorageError(f"cannot make the data directory {path}: {error.strerror}") from error


def _lock(path: Path) -> int:
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"cannot write into the data directory {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise StorageError(
            f"{path} is in use by another node (process {holder or 'unknown'}): stop it, or choose another directory "
            "(--dir)"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _entries(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.name != LOCK]


def _empty(path: Path) -> None:
    entries = _entries(path)
    if not entries:
        return
    if not (path / MARKER).is_file():
        raise StorageError(
            f"{path} is not an Ottla data directory (it has no {MARKER}), so --fresh deletes nothing in it: "
            "choose another directory, or delete it yourself"
        )
    # The marker goes last: what is left by an interrupted deletion may be deleted by the next.
    for entry in sorted(entries, key=lambda entry: entry.name == MARKER):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def format_directory(path: Path, formatting: Formatting, *, fresh: bool = False) -> None:
    """Make `path` the data directory of a node of a cluster. Raises StorageError when it holds anything already;
    `fresh` empties it first, if it bears the marker.
    """
    _make(path)
    lock = _lock(path)
    try:
        if fresh:
            _empty(path)
        if (path / MARKER).exists():
            owner = _read_identity(path)
            raise StorageError(
                f"{path} is formatted already, for node {owner.node_id} of cluster {format_uuid(owner.cluster_id)}: "
                "choose another directory"
            )
        _format(path, formatting.identity, formatting.secret, formatting.voters)
    finally:
        os.close(lock)


def is_formatted(path: Path) -> bool:
    """Whether a node's data lie there."""
    return (path / MARKER).exists()


def read_identity(path: Path) -> Identity:
    """Of a formatted directory. Raises StorageError."""
    return _read_identity(path)


def new_secret() -> bytes:
    """For a new cluster."""
    return secrets.token_hex(32).encode()


def _new_secret(path: Path) -> bytes:
    """One that somebody has put there already stays."""
    known = path / SECRET
    return known.read_bytes().strip() if known.exists() else new_secret()


def _format(path: Path, identity: Identity, secret: bytes, voters: tuple[Voter, ...] | None) -> None:
    ours = (META, SECRET, VOTERS)
    foreign = [entry.name for entry in _entries(path) if entry.name not in ours and entry.suffix != ".tmp"]
    if foreign:
        raise StorageError(
            f"{path} is not empty and not an Ottla data directory (it holds {foreign[0]!r}, and no {MARKER}): "
            "choose an empty one"
        )
    _write(path / SECRET, secret + b"\n", mode=0o600)
    if voters is not None:
        _write(path / VOTERS, encode_voters(voters))
    _write(
        path / META,
        (
            "# Written by Ottla; do not change.\n"
            "version=1\n"
            f"cluster.id={format_uuid(identity.cluster_id)}\n"
            f"node.id={identity.node_id}\n"
            f"directory.id={format_uuid(identity.directory_id)}\n"
        ).encode(),
    )
    # Last: the marker says that everything else is there.
    _write(path / MARKER, f"format.version={FORMAT_VERSION}\n".encode())


def random_uuid() -> Uuid:
    """A random id whose text form does not begin with a dash, which commands would take for a flag (as Kafka's)."""
    while True:
        uuid = Uuid(secrets.token_bytes(16))
        if not format_uuid(uuid).startswith("-"):
            return uuid


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_properties(path: Path) -> dict[str, str]:
    """`key=value` lines; comments and blank lines are skipped. Raises StorageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error
    lines = (line.strip() for line in text.splitlines())
    return {
        key.strip(): value.strip()
        for key, equals, value in (line.partition("=") for line in lines if line and not line.startswith("#"))
        if equals
    }


def _check_format(path: Path) -> None:
    text = read_properties(path / MARKER).get("format.version", "")
    if not text.isdigit():
        raise StorageError(
            f"{path / MARKER} is damaged: write format.version={FORMAT_VERSION} into it if the data is Ottla's"
        )
    if int(text) < FORMAT_VERSION:
        raise StorageError(
            f"{path} has format version {text}, of a pre-release of Ottla 0.1 that this version cannot read: "
            "start with --fresh, or choose another directory (--dir)"
        )
    if int(text) > FORMAT_VERSION:
        raise StorageError(
            f"{path} has format version {text}, this Ottla knows up to {FORMAT_VERSION}: "
            "start it with the newer Ottla that wrote it"
        )


def _read_identity(path: Path) -> Identity:
    properties = read_properties(path / META)
    try:
        return Identity(
            cluster_id=parse_uuid(properties["cluster.id"]),
            node_id=NodeId(int(properties["node.id"])),
            directory_id=parse_uuid(properties["directory.id"]),
        )
    except (KeyError, ValueError) as error:
        raise StorageError(
            f"{path / META} is damaged ({error}): restore it, or start with an empty directory"
        ) from error


def _check_owner(path: Path, identity: Identity, node_id: NodeId, cluster_id: Uuid | None) -> None:
    if identity.node_id != node_id:
        raise StorageError(
            f"{path} belongs to node {identity.node_id}, not to node {node_id}: set node_id, "
            "or choose another directory"
        )
    if cluster_id is not None and identity.cluster_id != cluster_id:
        raise StorageError(
            f"{path} belongs to cluster {format_uuid(identity.cluster_id)}, not to {format_uuid(cluster_id)}: "
            "choose another directory"
        )
