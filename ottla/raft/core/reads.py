"""Reads that a leader has to confirm (section 8; dissertation 6.4, without leases).

A read sees all that was committed when it was asked for once two things are known: what was committed (from the first
committed entry of the own term on), and that this leader still led after it was asked (a majority answers a heartbeat
that was sent later).
"""

from collections import deque

from ottla.raft.core.entries import ReadState


class PendingReads:
    """Asked → registered at a commit index and heartbeat round → confirmed."""

    __slots__ = ("_asked", "_registered")

    def __init__(self) -> None:
        self._asked: list[object] = []
        self._registered: deque[tuple[int, ReadState]] = deque()

    def ask(self, context: object) -> None:
        self._asked.append(context)

    def register(self, commit: int, next_round: int) -> bool:
        """Give what was asked its index, and the round that must be answered; whether there was any."""
        if not self._asked:
            return False
        self._registered += [(next_round, ReadState(context, commit)) for context in self._asked]
        self._asked.clear()
        return True

    @property
    def are_waiting(self) -> bool:
        """Some are registered and not confirmed."""
        return bool(self._registered)

    def confirmed(self, answered_round: int) -> list[ReadState]:
        """Those whose round, or a later one, a majority has answered."""
        found = []
        while self._registered and self._registered[0][0] <= answered_round:
            found.append(self._registered.popleft()[1])
        return found
