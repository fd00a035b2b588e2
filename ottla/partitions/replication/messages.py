"""What nodes say to each other besides, over the connections of replicas: bytes that mean nothing here.

Whoever dialled asks, and the other side answers; so questions overtake no batches, which go the other way. A question
whose connection ends has no answer any more, and it is unknown whether it was read. The youngest connection of a node
ends the one before it, so nothing of an older one is read after the first of a younger one.
"""

from collections.abc import Callable
from typing import Final, Protocol

from ottla.core.types import NodeId


class Messages(Protocol):
    """Who asks and answers, on the loop."""

    def asked(self, node: NodeId, message: bytes, answer: Callable[[bytes], None]) -> None:
        """That node asks. `answer` may be called later, and does nothing once the connection is over."""

    def answered(self, node: NodeId, message: bytes) -> None:
        """That node answered."""

    def lost(self, node: NodeId) -> None:
        """The connection by which that node was asked has ended."""


class _NoMessages:
    """Nobody: as on a node whose broker has not started yet."""

    def asked(self, node: NodeId, message: bytes, answer: Callable[[bytes], None]) -> None:
        """It gets no answer."""

    def answered(self, node: NodeId, message: bytes) -> None:
        """Nothing was asked."""

    def lost(self, node: NodeId) -> None:
        """Nothing was asked."""


NO_MESSAGES: Final[Messages] = _NoMessages()
