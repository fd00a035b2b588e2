"""What hears of this node's links to others, and the error of who asked over one."""

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId


class Unreachable(ApiError):
    """The other node cannot be asked, or hung up before it answered."""

    def __init__(self, node: NodeId, why: str) -> None:
        super().__init__(ErrorCode.NETWORK_EXCEPTION, f"node {node}: {why}")


class LinkListener:
    """What else wants to hear of links: overridden in part."""

    def linked(self, node: NodeId) -> None:
        """Frames pass from now on."""

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        """They do not any more."""

    def refused(self, node: NodeId) -> None:
        """Nothing listens there."""

    def lost(self, node: NodeId) -> None:
        """The connection by which this node follows that one has ended, whatever becomes of the link."""
