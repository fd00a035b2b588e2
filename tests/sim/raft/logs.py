"""Raft's promises about terms, leaders and logs (figure 3 of the paper), kept up to date with what nodes do.

A `Watch` looks at one running node after each callback on its loop and passes on only what changed; `Logs` knows what
holds for all of them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.raft.core import Entry, EntryKind, Member, Membership, Raft
from ottla.raft.core.leader import Leader
from tests.sim.raft.coverage import Coverage
from tests.sim.raft.violation import Violation

if TYPE_CHECKING:
    from ottla.testing.sim.network import SimNetwork


class Logs:
    """Of all nodes and all times."""

    def __init__(self, coverage: Coverage, network: "SimNetwork") -> None:
        self.coverage, self.network = coverage, network
        self.leaders: dict[int, Member] = {}
        self.entries: dict[tuple[int, int], tuple[Entry, int]] = {}  # (index, term): entry and its predecessor's term
        self.committed: dict[int, tuple[int, int]] = {}  # index: the entry's term, the newest term when it was seen
        self.max_committed = 0
        self.membership: Membership | None = None  # the newest committed one
        self.last_change = 0  # the largest index at which any log ever held one
        self._changes: dict[int, set[Member]] = {}  # by the index of a change: whom it names in any log
        self.asked_by_leader: set[tuple[Member, int]] = set()  # elections that a transfer began; never iterated
        self.outstanding = 0  # proposals of clients
        self.votes: dict[tuple[Member, int], Member] = {}  # by (voter, term), as they were sent
        self.acknowledged: dict[tuple[Member, int], int] = {}  # by (member, term): told that term's leader to hold
        self.first_known: Callable[[Member], None] | None = None  # called when only this leader knows of a commit
        self.changing: Callable[[Member, Membership], None] | None = None  # called when this leader appends a change
        self._proposals: dict[tuple[int, int], int] = {}  # (client, sequence): index of its first entry

    def leads(self, raft: Raft) -> None:
        """A node became a leader."""
        term, member, log = raft.term, raft.member, raft.log
        known = self.leaders.setdefault(term, member)
        if known != member:
            raise Violation("election safety", f"{known} and {member} lead term {term}")
        voters = {m for m in log.membership.voters if m == member or self.votes.get((m, term)) == member}
        if not log.membership.is_quorum(voters):
            raise Violation("elected by a majority", f"{member} leads term {term}, elected by {len(voters)} voters")
        if len(self.leaders) > 1 and self.outstanding:
            self.coverage.note("leader change under load")
        if (member, term) in self.asked_by_leader:
            self.coverage.note("leadership transferred")
        for index in range(log.base_index + 1, self.max_committed + 1):
            entry_term, seen_in = self.committed[index]
            if seen_in < term and log.term_at(index) != entry_term:
                raise Violation(
                    "leader completeness", f"{member} leads term {term} without the committed {index}:{entry_term}"
                )

    def appended(self, raft: Raft, first: int) -> None:
        """The log of a node has other entries than before, from `first` on."""
        log, known = raft.log, self.entries
        previous = log.term_at(first - 1) or 0
        for entry in log.entries[first - log.base_index - 1 :]:
            key = (entry.index, entry.term)
            found = known.setdefault(key, (entry, previous))
            if found[0] is not entry and (found[0] != entry or found[1] != previous):
                raise Violation("log matching", f"{raft.member} holds another entry {key[0]}:{key[1]} than others")
            if entry.kind is EntryKind.MEMBERSHIP:
                if isinstance(raft.role, Leader) and entry.term == raft.term:
                    self._changes_members(raft, entry)
                self.last_change = max(self.last_change, entry.index)
                self._changes.setdefault(entry.index, set()).update(log.membership_at(entry.index).members)
                if found[0] is entry and self.network.cut:
                    self.coverage.note("membership change during a partition")
            previous = entry.term

    def names(self, member: Member) -> bool:
        """Whether it is a member, or may become one by a change that is in a log somewhere."""
        if self.membership is not None and member in self.membership.members:
            return True
        return any(member in members for index, members in self._changes.items() if index > self.max_committed)

    def _changes_members(self, raft: Raft, entry: Entry) -> None:
        """A leader has appended a change: never before the last one and an entry of its term are committed."""
        log = raft.log
        base, commit = log.base_index, log.commit
        before = log.entries[max(commit - base, 0) : entry.index - base - 1]
        if any(other.kind is EntryKind.MEMBERSHIP for other in before):
            raise Violation("one change at a time", f"{raft.member} appends a second one at {entry.index}")
        if log.term_at(commit) != raft.term:
            raise Violation("no change before an entry of the term", f"{raft.member} appends one at {entry.index}")
        if self.changing is not None:
            self.changing(raft.member, log.membership)

    def commits(self, raft: Raft, before: int) -> None:
        """The commit index of a node moved on from `before`."""
        log, committed, term = raft.log, self.committed, raft.term
        older = False
        for index in range(max(before, log.base_index) + 1, log.commit + 1):
            entry_term = log.term_at(index)
            assert entry_term is not None
            older |= entry_term < term
            known = committed.get(index)
            if known is None:
                committed[index] = (entry_term, term)
                self._first_committed(raft, log.entries[index - log.base_index - 1])
            elif known[0] != entry_term:
                raise Violation(
                    "committed entries stay", f"{raft.member} commits {index}:{entry_term}, others {index}:{known[0]}"
                )
        if isinstance(raft.role, Leader):
            if log.term_at(log.commit) != term:
                raise Violation(
                    "commit by one's own term", f"{raft.member} leads term {term} and commits up to {log.commit}"
                )
            self._counted(raft)
            if older:
                self.coverage.note("older term committed indirectly")
        if log.commit > self.max_committed:
            if log.commit != len(committed):
                raise Violation(
                    "committed entries stay", f"{raft.member} knows {log.commit}, {len(committed)} are seen"
                )
            self.max_committed = log.commit
            if self.first_known is not None and isinstance(raft.role, Leader):
                self.first_known(raft.member)

    def _counted(self, raft: Raft) -> None:
        """A leader commits what a majority of the voters told it, in its term, to hold durably."""
        log = raft.log
        holders = {
            m
            for m in log.membership.members | log.membership_at(log.commit).members
            if (log.stable if m == raft.member else self.acknowledged.get((m, raft.term), 0)) >= log.commit
        }
        # The leader may have appended a change after it counted, in the same turn.
        if not (log.membership.is_quorum(holders) or log.membership_at(log.commit).is_quorum(holders)):
            raise Violation(
                "committed by a majority", f"{raft.member} commits up to {log.commit}, which {len(holders)} hold"
            )

    def _first_committed(self, raft: Raft, entry: Entry) -> None:
        if entry.client and self._proposals.setdefault((entry.client, entry.sequence), entry.index) != entry.index:
            self.coverage.note("retry de-duplicated")
        if entry.kind is EntryKind.MEMBERSHIP:
            before, now = self.membership, Membership.decode(entry.data)
            self.membership = now
            if before is None:
                return
            if len(now.voters ^ before.voters) > 1:
                raise Violation("one voter at a time", f"from {_names(before)} to {_names(now)} in entry {entry.index}")
            if now.voters - before.voters:
                self.coverage.note("learner promoted")
            if before.members - now.members:
                self.coverage.note("member removed")


def _names(membership: Membership) -> str:
    return " ".join(str(member) for member in sorted(membership.voters))


class Watch:
    """One running node: what it was like when it was looked at last."""

    def __init__(self, logs: Logs, raft: Raft) -> None:
        self.raft, self._logs = raft, logs
        log = raft.log
        self._term, self._role, self._commit = raft.term, raft.role, log.commit
        self._last, self._last_term, self._snapshot = log.last_index, log.last_term, log.snapshot.index
        self.promised = (0, 0)  # (term, index): told a leader of this term that this index is held
        logs.appended(raft, log.base_index + 1)

    def look(self) -> None:
        """After a callback of the node."""
        raft, logs = self.raft, self._logs
        log = raft.log
        if raft.term < self._term:
            raise Violation("terms grow", f"{raft.member} went from term {self._term} to {raft.term}")
        last, last_term = log.last_index, log.last_term
        if last != self._last or last_term != self._last_term:
            self._log_changed(last, last_term)
        if log.snapshot.index != self._snapshot:
            self._snapshot = log.snapshot.index
            logs.coverage.note("snapshot installed" if self._snapshot > self._commit else "snapshot saved")
        if log.commit != self._commit:
            if log.commit < self._commit:
                raise Violation("commit index grows", f"{raft.member} went from {self._commit} to {log.commit}")
            logs.commits(raft, self._commit)
            self._commit = log.commit
        if raft.role is not self._role:
            self._role_changed()
        self._term = raft.term

    def _log_changed(self, last: int, last_term: int) -> None:
        raft, log = self.raft, self.raft.log
        if log.term_at(self._last) == self._last_term:
            first = self._last + 1
        elif log.base_index >= self._last:
            first = log.base_index + 1  # a snapshot replaced all
        else:
            self._logs.coverage.note("log truncated")
            self._truncated(last)
            first = max(log.base_index, self._commit) + 1
        self._last, self._last_term = last, last_term
        self._logs.appended(raft, first)

    def _truncated(self, last: int) -> None:
        """What a leader was told to be held may go only for a leader of a later term."""
        term, index = self.promised
        if last < index:
            if term == self.raft.term:
                raise Violation(
                    "acknowledged entries stay",
                    f"{self.raft.member} told the leader of term {term} that it holds {index}, and now ends at {last}",
                )
            self.promised = (term, last)

    def _role_changed(self) -> None:
        raft, before = self.raft, self._role
        self._role = raft.role
        if isinstance(raft.role, Leader):
            self._logs.leads(raft)
        elif isinstance(before, Leader) and raft.term == self._term:
            stays = raft.member in raft.log.membership.voters
            self._logs.coverage.note("quorum check failed" if stays else "leader removed itself")
