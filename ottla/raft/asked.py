"""Whoever waits for something from this node's part in the quorum, and how each is answered."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from ottla.core.types import NodeId
from ottla.raft.core import Entry, Membership
from ottla.raft.quorum import Committed, ProposalLost
from ottla.raft.replica import Outcome

T = TypeVar("T")


class Asked:
    """Futures by what they wait for. A future that is done, e.g. cancelled, is passed over."""

    def __init__(self) -> None:
        self._proposals: dict[int, tuple[int, asyncio.Future[Committed]]] = {}  # by index: (term, who waits)
        self._reads: dict[int, asyncio.Future[int]] = {}  # by number, until a majority has confirmed the leader
        self._reads_due: list[tuple[int, asyncio.Future[int]]] = []  # then: once this index is applied
        self._read_count = 0
        self._changes: list[tuple[Callable[[Membership], bool], asyncio.Future[None]]] = []
        self._transfers: list[asyncio.Future[None]] = []
        self._leaderless: list[asyncio.Future[None]] = []

    # -- proposals

    def proposal(self, index: int, term: int) -> "asyncio.Future[Committed]":
        """For the entry that was appended there."""
        future: asyncio.Future[Committed] = new_future()
        self._proposals[index] = term, future
        return future

    def applied(self, entry: Entry, outcome: Outcome, leader: NodeId | None) -> None:
        """What stands at that index now is known."""
        term, future = self._proposals.pop(entry.index, (0, None))
        if future is None or future.done():
            return
        if term != entry.term:
            future.set_exception(ProposalLost(leader, "another leader's entry took the proposal's place"))
        elif isinstance(outcome, bytes):
            future.set_result(Committed(entry.index, outcome))
        else:
            future.set_exception(outcome)

    # -- reads

    def next_read(self) -> int:
        """The number of the read that is asked for next."""
        return self._read_count + 1

    def read(self) -> "asyncio.Future[int]":
        """For the read of the number that `next_read` gave."""
        self._read_count += 1
        future: asyncio.Future[int] = new_future()
        self._reads[self._read_count] = future
        return future

    def confirmed(self, number: int, index: int) -> None:
        """The node led when the read was asked for, which is answered once `index` is applied."""
        if (future := self._reads.pop(number, None)) is not None:
            self._reads_due.append((index, future))

    def answer_reads(self, applied_index: int) -> None:
        """Those that wait for no more than what is applied."""
        if self._reads_due:
            for index, future in self._reads_due:
                if index <= applied_index and not future.done():
                    future.set_result(applied_index)
            self._reads_due = [due for due in self._reads_due if due[0] > applied_index]

    # -- members and leaders

    def change(self, is_done: Callable[[Membership], bool]) -> "asyncio.Future[None]":
        """Until a membership of which `is_done` is true is committed."""
        future: asyncio.Future[None] = new_future()
        self._changes.append((is_done, future))
        return future

    def committed(self, membership: Membership) -> None:
        """The newest membership is committed."""
        if self._changes:
            for is_done, future in self._changes:
                if is_done(membership) and not future.done():
                    future.set_result(None)
            self._changes = [change for change in self._changes if not change[1].done()]

    def transfer(self) -> "asyncio.Future[None]":
        """Until another node leads."""
        future: asyncio.Future[None] = new_future()
        self._transfers.append(future)
        return future

    @property
    def has_transfers(self) -> bool:
        return bool(self._transfers)

    def end_transfers(self, error: Exception | None) -> None:
        """Another node leads; or, with an error, none took over."""
        transfers, self._transfers = self._transfers, []
        _end(transfers, error)

    def leader(self) -> "asyncio.Future[None]":
        """Until something about the leader changes."""
        future: asyncio.Future[None] = new_future()
        self._leaderless.append(future)
        return future

    def leader_changed(self) -> None:
        """They look for themselves."""
        waiting, self._leaderless = self._leaderless, []
        _end(waiting, None)

    # -- the end

    def lose(self, error: Exception) -> None:
        """What this node was asked as a leader will not be answered by it."""
        waiting: list[asyncio.Future[Any]] = [
            *(future for _, future in self._proposals.values()),
            *self._reads.values(),
            *(future for _, future in self._reads_due),
            *(future for _, future in self._changes),
        ]
        self._proposals.clear()
        self._reads.clear()
        self._reads_due.clear()
        self._changes.clear()
        _end(waiting, error)


def _end(waiting: "list[asyncio.Future[Any]]", error: Exception | None) -> None:
    for future in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def new_future() -> "asyncio.Future[Any]":
    """On the running loop."""
    return asyncio.get_running_loop().create_future()


def failed(error: Exception) -> "asyncio.Future[Any]":
    """One that ends with this error."""
    future = new_future()
    future.set_exception(error)
    return future


def done(value: T) -> "asyncio.Future[T]":
    """One that has this result."""
    future: asyncio.Future[T] = new_future()
    future.set_result(value)
    return future
