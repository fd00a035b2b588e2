"""One node: everything below it, made, started and stopped in the right order.

Start: data directory, sockets, disk, quorum and controller, partitions, broker, doors. The sockets are bound first, so
that a port in use costs no recovery, and listen last: a client is either refused or served. Stop is the reverse: the
doors drain, then logs and checkpoints are written, then the metadata log, then the lock goes.
"""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from ottla.node.config import NodeConfig

if TYPE_CHECKING:
    pass

logger = structlog.get_logger(__name__)


class Node:
    """Runs on the loop that `start` is called on; starts once."""

    def __init__(self, config: NodeConfig, *, fresh: bool = False) -> None:
        self._config, self._fresh = config, fresh
        self._cleanups = AsyncExitStack()
