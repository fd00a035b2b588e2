"""Transactions as a history tells of them: what belongs to each, and whether it committed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ottla.testing.history.history import History
from ottla.testing.history.operations import Begin, Commit, End, Outcome, Poll, Send


@dataclass(slots=True)
class Transaction:
    """All that belongs to one of them."""

    name: str
    begins: list[Begin] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    shown: Poll | None = None
    """The first poll of committed records that held one of its own."""

    @property
    def told_committed(self) -> End | None:
        """The end that was acknowledged as a commit."""
        return next((one for one in self.ends if one.commit and one.outcome is Outcome.OK), None)

    @property
    def may_have_committed(self) -> bool:
        """Somebody asked for it, and was not told that it failed. Where nobody did, the transaction must never show."""
        return any(one.commit and one.outcome is not Outcome.FAILED for one in self.ends)

    @property
    def has_committed(self) -> bool:
        """It was acknowledged, or nobody knows and a record of it showed."""
        return self.told_committed is not None or (self.shown is not None and self.may_have_committed)

    @property
    def commit_asked_ns(self) -> int:
        """When a commit was first asked for; only for one that may have committed."""
        return min(one.invoked_ns for one in self.ends if one.commit and one.outcome is not Outcome.FAILED)


def transactions_of(history: History) -> dict[str, Transaction]:
    """By name."""
    found: dict[str, Transaction] = {}

    def of(name: str) -> Transaction:
        known = found.get(name)
        if known is None:
            known = found[name] = Transaction(name)
        return known

    for begin in history.begins:
        of(begin.transaction).begins.append(begin)
    for end in history.ends:
        of(end.transaction).ends.append(end)
    for send in history.sends:
        if send.transaction is not None:
            of(send.transaction).sends.append(send)
    for commit in history.commits:
        if commit.transaction is not None:
            of(commit.transaction).commits.append(commit)
    for poll in history.polls:
        if poll.transaction is not None:
            of(poll.transaction).polls.append(poll)
    return found


def ends_of(transactions: Iterable[Transaction]) -> tuple[End, ...]:
    """For excerpts."""
    return tuple(end for one in transactions for end in one.ends)
