"""The port between the members of a quorum: messages that may be lost, repeated or late, never damaged or forged.

In production gRPC streams (`grpc_transport`), in the simulator a network that does all of that and worse.
"""

from collections.abc import Mapping
from typing import Protocol

from ottla.core.ports import MeshEvents
from ottla.core.types import NodeId
from ottla.raft.core.messages import Message


class Receiver(Protocol):
    """The side of the driver. Called on its loop."""

    def receive(self, message: Message) -> None:
        """A message has arrived."""

    def unreachable(self, node: NodeId) -> None:
        """The connection to this node was refused or reset: what was on its way is lost, and it may be dead.

        Not called for a peer that is merely silent.
        """

    def connected(self, node: NodeId) -> None:
        """A connection to this node stands, perhaps a new one: what was sent before may be lost."""


class Transport(Protocol):
    """One node's way to the others."""

    def start(self, receiver: Receiver) -> None:
        """Deliver to `receiver` from now on."""

    def reach(self, endpoints: Mapping[NodeId, str]) -> None:
        """Where the members are from now on: whom this node may dial. Connections that it dialled to others end.

        A member that knows nobody yet is dialled by the leader, and answers on that connection.
        """

    def send(self, message: Message) -> None:
        """Queue for `message.target.node`. Never blocks; dropped when there is no way to it or too much waits."""

    async def close(self) -> None:
        """End all connections; nothing is delivered any more."""


class Alone:
    """The transport, and the mesh, of a node that has nobody to talk to."""

    def start(self, receiver: Receiver) -> None:
        """Nothing will come."""

    def reach(self, endpoints: Mapping[NodeId, str]) -> None:
        """There is nobody."""

    def send(self, message: Message) -> None:
        """Nobody hears it."""

    async def close(self) -> None:
        """Nothing is open."""

    def attach(self, events: MeshEvents) -> None:
        """There is nothing to tell."""

    def reach_also(self, endpoints: Mapping[NodeId, str]) -> None:
        """There is nobody."""

    def is_linked(self, node: NodeId) -> bool:
        """There is nobody."""
        return False

    def send_frame(self, node: NodeId, frame: bytes) -> bool:
        """Nobody would hear it."""
        return False
