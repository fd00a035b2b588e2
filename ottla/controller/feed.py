"""Feeds a controller from the quorum's log, or from another node that is asked for it, or from one after the other.

A node that does not vote is told of committed entries by one that does (`observed`). When it is made a voter, its own
log begins at the beginning, perhaps long behind. Until the log has caught up it is replayed beside the controller: what
the quorum saves as a snapshot must be the state at the log's own place, and no entry may be applied twice.

    OBSERVING ── the log reaches what was observed ──▶ LOG ── `observed` ──▶ OBSERVING
"""

from collections.abc import Callable

from ottla.controller.decider import Decider
from ottla.core.types import NodeId
from ottla.raft.quorum import Entry, Snapshot


class Feed:
    """Implements `StateMachine` for the quorum."""

    def __init__(self, controller: Decider) -> None:
        self._controller = controller
        self._log: Decider | None = None  # the state of the node's own log while that is not the controller's

    @property
    def is_observing(self) -> bool:
        """Whether the controller is ahead of this node's own log."""
        return self._log is not None

    # -- the node's own log

    def apply(self, entry: Entry) -> bytes:
        """See `StateMachine`."""
        log = self._log
        if log is None:
            return self._controller.apply(entry)
        log.apply(entry)
        if entry.index >= self._controller.image.offset:
            self._log = None
            if entry.index > self._controller.image.offset:
                return self._controller.apply(entry)
        return b""

    def snapshot(self) -> Callable[[], bytes]:
        """See `StateMachine`."""
        return (self._log or self._controller).snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """See `StateMachine`."""
        log = self._log
        if log is None:
            self._controller.restore(snapshot)
            return
        log.restore(snapshot)
        if snapshot.index >= self._controller.image.offset:
            self._log = None
            if snapshot.index > self._controller.image.offset:
                self._controller.restore(snapshot)

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        """See `StateMachine`."""
        self._controller.leadership_changed(leader, term)

    # -- what another node tells

    def observed(self, item: Snapshot | Entry) -> None:
        """Committed, and told by a voter: in order, after what the controller has or with a snapshot in between."""
        controller = self._controller
        if item.index <= controller.image.offset:
            return
        if self._log is None:
            self._log = Decider.at(controller.image)
        if isinstance(item, Snapshot):
            controller.restore(item)
        else:
            controller.apply(item)
