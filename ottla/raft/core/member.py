"""One member of a quorum."""

from dataclasses import dataclass

from ottla.core.types import NodeId, Uuid


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A node with the directory that holds its log."""

    node: NodeId
    directory: Uuid

    def __str__(self) -> str:
        return f"{self.node}@{self.directory.hex()[:6]}"
