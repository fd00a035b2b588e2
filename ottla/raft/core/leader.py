"""The leader: brings the followers' logs in line with its own, commits, confirms reads, changes the membership.

What is to be sent is decided in `flush`, once for each `Ready`: proposals that came in between travel together.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

from ottla.raft.core.entries import Entry, EntryKind
from ottla.raft.core.errors import MembershipError, NotLeading, Overloaded, SafetyViolation
from ottla.raft.core.membership import Member, Membership
from ottla.raft.core.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    SnapshotChunk,
    SnapshotResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from ottla.raft.core.progress import Pace, Progress
from ottla.raft.core.reads import PendingReads
from ottla.raft.core.roles import Role

if TYPE_CHECKING:
    from ottla.raft.core.raft import Raft


class Leader(Role):
    """Leads for one term."""

    def __init__(self, raft: "Raft") -> None:
        super().__init__(raft)
        self.progress: dict[Member, Progress] = {}
        self.reads = PendingReads()
        self.round = 0  # of heartbeats
        self.heartbeat_due = True
        self.owes_commit = False
        self.successor: Member | None = None
        self._number = 0
        self._since_check = 0
        self._since_transfer = 0
        self._meet_members()

    def open_term(self) -> None:
        """An entry of its own term, with which all that earlier terms left is committed (section 8)."""
        self._append(EntryKind.EMPTY, b"")

    @property
    def hears_leader(self) -> bool:
        return True

    @property
    def may_read(self) -> bool:
        """Before an entry of its own term is committed, a leader does not know what is (section 8)."""
        log = self.raft.log
        return log.term_at(log.commit) == self.raft.term

    # -- time

    @property
    def ticks_until_due(self) -> int:
        config = self.raft.config
        due = min(config.heartbeat_ticks - self.elapsed, config.election_ticks - self._since_check)
        return due if self.successor is None else min(due, config.election_ticks - self._since_transfer)

    def tick(self) -> None:
        config = self.raft.config
        self.elapsed += 1
        self._since_check += 1
        if self.elapsed >= config.heartbeat_ticks:
            self.elapsed = 0
            self.heartbeat_due = True
        if self.successor is not None:
            self._since_transfer += 1
            if self._since_transfer >= config.election_ticks:
                self.successor = None
        if self._since_check >= config.election_ticks:
            self._since_check = 0
            self._check_quorum()

    def _check_quorum(self) -> None:
        """A leader that a majority did not answer for an election's time-out is cut off: others may lead by now
        (dissertation 6.2).
        """
        active = {member for member, progress in self.progress.items() if progress.active} | {self.raft.member}
        for progress in self.progress.values():
            progress.active = False
        if not self.raft.log.membership.is_quorum(active):
            self.raft.become_follower(self.raft.term, None)

    # -- what users of the quorum ask

    def propose(self, data: bytes, client: int, sequence: int, resolved_below: int) -> tuple[int, int]:
        self._take_proposal(len(data))
        return self._append(EntryKind.DATA, data, client, sequence, resolved_below), self.raft.term

    def open_session(self) -> tuple[int, int]:
        self._take_proposal(0)
        return self._append(EntryKind.SESSION, b""), self.raft.term

    def _take_proposal(self, size_bytes: int) -> None:
        """Raise when none is taken now."""
        if self.successor is not None:
            raise NotLeading(self.successor, f"leadership is being handed to {self.successor}")
        waiting = self.raft.log.uncommitted_bytes
        if waiting and waiting + size_bytes > self.raft.config.max_uncommitted_bytes:
            raise Overloaded(f"{waiting} bytes of proposals wait to be committed; try again later")

    def read(self, context: object) -> None:
        self.reads.ask(context)

    def change(self, membership: Membership) -> int:
        """One change at a time, and none before an entry of the own term is committed: two leaders could else count
        by memberships whose majorities do not overlap.
        """
        log = self.raft.log
        if not self.may_read:
            raise MembershipError("this leader has not committed an entry of its term yet; try again")
        if log.membership_index > log.commit:
            raise MembershipError(f"the change at entry {log.membership_index} is not committed yet; try again")
        return self._append(EntryKind.MEMBERSHIP, membership.encode())

    def transfer(self, member: Member) -> None:
        if member not in self.raft.log.membership.voters:
            raise MembershipError(f"{member} is not a voter")
        if member != self.raft.member:
            self.successor, self._since_transfer = member, 0
            self._hand_over()

    def best_successor(self) -> Member | None:
        voters = self.raft.log.membership.voters
        living = [(p.match, m) for m, p in self.progress.items() if p.active and m in voters]
        return max(living)[1] if living else None

    def _append(self, kind: EntryKind, data: bytes, client: int = 0, sequence: int = 0, resolved_below: int = 0) -> int:
        raft = self.raft
        index = raft.log.last_index + 1
        raft.log.append([Entry(index, raft.term, kind, data, client, sequence, resolved_below)])
        if kind is EntryKind.MEMBERSHIP:
            self._meet_members()
        return index

    def _meet_members(self) -> None:
        others = sorted(self.raft.log.membership.members - {self.raft.member})
        self.progress = {m: self.progress.get(m) or Progress(self.raft.log.last_index + 1) for m in others}
        self._must_count = True  # a majority of others may hold more

    # -- sending

    def flush(self, *, tell_commit: bool) -> None:
        if self._must_count:
            self._must_count = False
            self._commit()
            if self.raft.role is not self:
                return
        self.owes_commit = False
        if self.may_read and self.reads.register(self.raft.log.commit, self.round + 1):
            self.heartbeat_due = True
        if self.heartbeat_due:
            self._heartbeat()
        for member, progress in self.progress.items():
            self._send_to(member, progress, tell_commit)

    def _heartbeat(self) -> None:
        self.heartbeat_due = False
        self.round += 1
        self._promote_caught_up()
        raft = self.raft
        for member, progress in self.progress.items():
            commit = min(raft.log.commit, progress.match)
            beat = Heartbeat(source=raft.member, target=member, term=raft.term, round=self.round, commit=commit)
            raft.send(beat)
        self._confirm_reads()

    def _send_to(self, member: Member, progress: Progress, tell_commit: bool) -> None:
        log = self.raft.log
        if progress.pace is not Pace.SNAPSHOT and progress.next <= log.base_index:
            progress.send_snapshot(log.snapshot)
        if progress.pace is Pace.SNAPSHOT:
            if progress.awaited is None:
                self._send_chunk(member, progress)
        elif progress.pace is Pace.PROBE:
            if progress.awaited is None:
                self._send_append(member, progress)
                progress.await_reply(self._number, self.round)
        else:
            self._stream(member, progress, tell_commit)

    def _stream(self, member: Member, progress: Progress, tell_commit: bool) -> None:
        log, config = self.raft.log, self.raft.config
        last_index = log.last_index
        while progress.next <= last_index and progress.in_flight_bytes < config.max_in_flight_bytes:
            entries = self._send_append(member, progress)
            size = sum(entry.size_bytes for entry in entries)
            progress.take_off(entries[-1].index, size, self.round)
        if progress.told_commit < log.commit and progress.next > last_index:
            if tell_commit:
                self._send_append(member, progress)
            else:
                self.owes_commit = True

    def _send_append(self, member: Member, progress: Progress) -> tuple[Entry, ...]:
        raft, log = self.raft, self.raft.log
        previous = progress.next - 1
        previous_term = log.term_at(previous)
        assert previous_term is not None
        self._number += 1
        entries = log.slice(progress.next, log.last_index + 1, raft.config.max_append_bytes)
        request = AppendRequest(
            source=raft.member, target=member, term=raft.term, number=self._number,
            previous_index=previous, previous_term=previous_term, commit=log.commit, entries=entries,
        )  # fmt: skip
        raft.send(request)
        progress.told_commit = log.commit
        return entries

    def _send_chunk(self, member: Member, progress: Progress) -> None:
        raft, snapshot = self.raft, progress.snapshot
        assert snapshot is not None
        self._number += 1
        data = snapshot.data[progress.offset : progress.offset + raft.config.chunk_bytes]
        chunk = SnapshotChunk(
            source=raft.member, target=member, term=raft.term, number=self._number,
            index=snapshot.index, index_term=snapshot.term, membership=snapshot.membership,
            size=len(snapshot.data), checksum=crc32(snapshot.data),
            offset=progress.offset, data=data, data_checksum=crc32(data),
        )  # fmt: skip
        raft.send(chunk)
        progress.await_reply(self._number, self.round)

    # -- replies

    def _on_append_response(self, response: AppendResponse) -> None:
        progress = self.progress.get(response.source)
        if progress is None:
            return
        progress.active = True
        if response.matched:
            self._on_match(response, progress)
        elif progress.pace is Pace.PROBE:
            if response.number == progress.awaited:
                self._step_back(response, progress)
        elif progress.pace is Pace.REPLICATE and response.number >= progress.since:
            self._step_back(response, progress)

    def _on_match(self, response: AppendResponse, progress: Progress) -> None:
        log = self.raft.log
        news = progress.matched(response.index, self.round)
        if progress.pace is Pace.PROBE or (progress.pace is Pace.SNAPSHOT and log.term_at(progress.match) is not None):
            progress.replicate(self._number + 1)
        elif progress.snapshot is not None and progress.match >= progress.snapshot.index:
            progress.send_next_snapshot(log.snapshot)  # what follows the one that it has was compacted meanwhile
        if news:
            self._commit()
            if self.raft.role is self:
                self._promote_caught_up()
                self._hand_over()

    def _step_back(self, response: AppendResponse, progress: Progress) -> None:
        agreed, _ = self.raft.log.agrees_at_most(response.index, response.hint_term)
        progress.refused(agreed)

    def _on_heartbeat_response(self, response: HeartbeatResponse) -> None:
        progress = self.progress.get(response.source)
        if progress is None:
            return
        progress.active = True
        progress.acknowledged_round = max(progress.acknowledged_round, response.round)
        if progress.waiting and response.round - progress.sent_round >= self.raft.config.patience_rounds:
            self._lost(progress)
        self._confirm_reads()

    def _on_snapshot_response(self, response: SnapshotResponse) -> None:
        progress = self.progress.get(response.source)
        if progress is None:
            return
        progress.active = True
        snapshot = progress.snapshot
        if snapshot is not None and snapshot.index == response.index and progress.awaited == response.number:
            progress.offset, progress.awaited = response.offset, None

    def unreachable(self, member: Member) -> None:
        if (progress := self.progress.get(member)) is not None:
            self._lost(progress)

    def connected(self, member: Member) -> None:
        """A voter that comes a moment after its leader was elected need not wait for the patience of some heartbeats:
        the first request was sent to nobody.
        """
        self.unreachable(member)

    def _lost(self, progress: Progress) -> None:
        """Send again. A snapshot goes on at the chunk that was lost."""
        if progress.pace is Pace.SNAPSHOT:
            progress.awaited = None
        else:
            progress.probe()

    # -- deciding

    def stabilised(self) -> None:
        self._commit()

    def _commit(self) -> None:
        """What a majority holds durably is committed if it is of this term; what is older comes with it (section
        5.4.2, figure 8).
        """
        raft, log = self.raft, self.raft.log
        held = log.membership.reached_by_quorum(self._held_by)
        if held > log.commit and log.term_at(held) == raft.term:
            log.commit_to(held)
        if raft.member not in log.membership.voters and log.membership_index <= log.commit:
            raft.become_follower(raft.term, None)  # it has removed itself (dissertation 4.2.2)

    def _held_by(self, member: Member) -> int:
        return self.raft.log.stable if member == self.raft.member else self.progress[member].match

    def _confirm_reads(self) -> None:
        if not self.reads.are_waiting:
            return
        confirmed = self.raft.log.membership.reached_by_quorum(self._confirmed_by)
        self.raft.reads += self.reads.confirmed(confirmed)

    def _confirmed_by(self, member: Member) -> int:
        return self.round if member == self.raft.member else self.progress[member].acknowledged_round

    def _promote_caught_up(self) -> None:
        """A learner that holds all that is committed becomes a voter, one at a time. Looked for at news of a follower
        and at each heartbeat: when a learner's news came, another change may not have been committed yet.
        """
        log = self.raft.log
        if not log.membership.learners or not self.may_read or log.membership_index > log.commit:
            return
        for member in sorted(log.membership.learners):
            if self.progress[member].match >= log.commit:
                self.change(log.membership.with_promoted(member))
                return

    def _hand_over(self) -> None:
        """Once the successor has everything, it may campaign (dissertation 3.10)."""
        raft, member = self.raft, self.successor
        if member is not None and member in self.progress and self.progress[member].match == raft.log.last_index:
            raft.send(TimeoutNow(source=raft.member, target=member, term=raft.term))

    # -- messages

    def _refuse_vote(self, request: VoteRequest) -> None:
        raft = self.raft
        refusal = VoteResponse(
            source=raft.member, target=request.source, term=raft.term, granted=False, pre=request.pre
        )
        raft.send(refusal)

    def _second_leader(self, message: Message) -> None:
        raise SafetyViolation(f"{message.source} leads term {message.term} too")

    handlers: ClassVar[dict[type[Message], Callable[..., None]]] = {
        VoteRequest: _refuse_vote,
        VoteResponse: Role._ignore,
        AppendRequest: _second_leader,
        Heartbeat: _second_leader,
        SnapshotChunk: _second_leader,
        TimeoutNow: _second_leader,
        AppendResponse: _on_append_response,
        HeartbeatResponse: _on_heartbeat_response,
        SnapshotResponse: _on_snapshot_response,
    }
