"""The roles of a member that does not lead: follower, pre-candidate, candidate.

What a role does with each kind of message stands in its `handle`; a message that no role knows is an error.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from ottla.raft.core.membership import Member
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

if TYPE_CHECKING:
    from ottla.raft.core.raft import Raft


class Role:
    """A role is made anew at each transition; what outlives it is kept in `Raft`."""

    handlers: ClassVar[dict[type[Message], Callable[..., None]]]

    def __init__(self, raft: "Raft") -> None:
        self.raft = raft
        self.elapsed = 0
        ticks = raft.config.election_ticks
        self.time_out = ticks + raft.random.randrange(0, ticks)
        if raft.term == 0:  # a new cluster: there is no leader that could be disturbed
            self.time_out = 1 + self.time_out % ticks // 2

    def handle(self, message: Message) -> None:
        """A message of this member's own term."""
        try:
            handler = self.handlers[type(message)]
        except KeyError:
            raise TypeError(f"{type(self).__name__} knows no {type(message).__name__}") from None
        handler(self, message)

    @property
    def hears_leader(self) -> bool:
        """A leader was heard of lately, so that nobody has a reason for an election."""
        return False

    @property
    def ticks_until_due(self) -> int:
        """See `Raft`."""
        return max(self.time_out - self.elapsed, 1)

    def tick(self) -> None:
        self.elapsed += 1
        if self.elapsed >= self.time_out:
            self.elapsed = 0
            campaign(self.raft)

    def flush(self, *, tell_commit: bool) -> None:
        """Called before a `Ready` is made."""

    def stabilised(self) -> None:
        """The journal holds more than before."""

    def unreachable(self, member: Member) -> None:
        """The transport lost what was on its way to this member."""

    def connected(self, member: Member) -> None:
        """What was sent to this member before may be lost; now it would arrive."""

    def _ignore(self, message: Message) -> None:
        """A reply to something that this member asked in another role."""

    def _on_vote_request(self, request: VoteRequest) -> None:
        """At most one vote a term, and only for who has all that may be committed (section 5.4.1)."""
        raft = self.raft
        if request.pre:
            answer_pre_vote(raft, request)
            return
        free = raft.vote in (None, request.source) and raft.leader is None
        granted = free and raft.log.is_up_to_date(request.last_index, request.last_term)
        if granted:
            raft.vote = request.source
            self.elapsed = 0
        answer = VoteResponse(source=raft.member, target=request.source, term=raft.term, granted=granted)
        raft.send_after_sync(answer)

    def _follow(self, message: Message) -> None:
        """Somebody was elected in this term."""
        self.raft.become_follower(self.raft.term, message.source)
        self.raft.role.handle(message)


def answer_pre_vote(raft: "Raft", request: VoteRequest) -> None:
    """Would this member vote so, if it were asked? Nothing changes by the answer."""
    granted = request.term > raft.term and raft.log.is_up_to_date(request.last_index, request.last_term)
    term = request.term if granted else raft.term
    raft.send(VoteResponse(source=raft.member, target=request.source, term=term, granted=granted, pre=True))


def campaign(raft: "Raft", *, transfer: bool = False) -> None:
    """Seek to be elected. A transfer skips the question whether it would be.

    Only a voter does, or one whose removal is not known to be committed: it may be the only one that has the entry
    which removes it (dissertation 4.2.2). Any other follows nobody until it hears of a leader: a candidate that counts
    its vote may know an entry that makes it a voter.
    """
    log = raft.log
    raft.leader = None
    if raft.member not in log.membership.voters | log.membership_at(log.commit).voters:
        return
    if transfer:
        raft.become(Candidate(raft, transfer=True))
    else:
        raft.become(PreCandidate(raft))


class Follower(Role):
    """Answers leaders and candidates."""

    def __init__(self, raft: "Raft") -> None:
        super().__init__(raft)
        self.lost_leader = False  # its connection broke, and nothing was heard since

    @property
    def hears_leader(self) -> bool:
        heard_lately = self.elapsed < self.raft.config.election_ticks and not self.lost_leader
        return self.raft.leader is not None and heard_lately

    def unreachable(self, member: Member) -> None:
        """A dead leader need not be waited for: a broken connection is a better sign than silence. Should it live, the
        others still hear it, and their answers to the pre-vote end the attempt.
        """
        if member == self.raft.leader and not self.lost_leader:
            self.lost_leader = True
            self.elapsed = max(self.elapsed, self.time_out - self._turn())

    def _turn(self) -> int:
        """Ticks until this member seeks to succeed its leader. All learn of the leader's end at once, so they take
        turns: a vote that is split costs another time-out.
        """
        raft = self.raft
        before = [voter for voter in raft.log.membership.voters if voter < raft.member and voter != raft.leader]
        return 1 + 2 * len(before)

    def _heard(self, message: Message) -> None:
        self.raft.leader = message.source
        self.elapsed = 0
        self.lost_leader = False

    def _on_append(self, request: AppendRequest) -> None:
        """AppendEntries, receiver's side (figure 2)."""
        self._heard(request)
        raft, log = self.raft, self.raft.log
        previous, entries = request.previous_index, request.entries
        if previous < log.base_index:  # what is compacted is committed, and so the same in both logs
            entries = tuple(e for e in entries if e.index > log.base_index)
            matches = True
        else:
            matches = log.term_at(previous) == request.previous_term
        if not matches:
            hint, hint_term = log.agrees_at_most(previous, request.previous_term)
            self._answer(request, matched=False, index=hint, hint_term=hint_term)
            return
        raft.merge(entries)
        last_new = max(previous + len(request.entries), log.commit)
        log.commit_to(max(log.commit, min(request.commit, last_new)))
        self._answer(request, matched=True, index=last_new)

    def _answer(self, request: AppendRequest, *, matched: bool, index: int, hint_term: int = 0) -> None:
        raft = self.raft
        answer = AppendResponse(
            source=raft.member, target=request.source, term=raft.term, number=request.number,
            matched=matched, index=index, hint_term=hint_term,
        )  # fmt: skip
        if matched:
            raft.send_after_sync(answer)
        else:
            raft.send(answer)

    def _on_heartbeat(self, heartbeat: Heartbeat) -> None:
        self._heard(heartbeat)
        raft = self.raft
        raft.log.commit_to(heartbeat.commit)
        answer = HeartbeatResponse(source=raft.member, target=heartbeat.source, term=raft.term, round=heartbeat.round)
        raft.send(answer)

    def _on_chunk(self, chunk: SnapshotChunk) -> None:
        self._heard(chunk)
        raft, log = self.raft, self.raft.log
        offset, whole = chunk.size, None
        if chunk.index > log.commit:
            offset, whole = raft.incoming.add(chunk)
        if whole is not None:
            if log.term_at(whole.index) == whole.term:
                log.commit_to(whole.index)  # the log has it all; what follows is worth keeping
            else:
                raft.install(whole)
        if chunk.index <= log.commit:
            answer = AppendResponse(
                source=raft.member, target=chunk.source, term=raft.term, number=chunk.number,
                matched=True, index=log.commit,
            )  # fmt: skip
            raft.send_after_sync(answer)
        else:
            asked = SnapshotResponse(
                source=raft.member, target=chunk.source, term=raft.term, number=chunk.number,
                index=chunk.index, offset=offset,
            )  # fmt: skip
            raft.send(asked)

    def _on_timeout_now(self, _: TimeoutNow) -> None:
        campaign(self.raft, transfer=True)

    handlers: ClassVar[dict[type[Message], Callable[..., None]]] = {
        VoteRequest: Role._on_vote_request,
        AppendRequest: _on_append,
        Heartbeat: _on_heartbeat,
        SnapshotChunk: _on_chunk,
        TimeoutNow: _on_timeout_now,
        VoteResponse: Role._ignore,
        AppendResponse: Role._ignore,
        HeartbeatResponse: Role._ignore,
        SnapshotResponse: Role._ignore,
    }


class _Seeker(Role):
    """Asks the other voters something, and counts."""

    def __init__(self, raft: "Raft") -> None:
        super().__init__(raft)
        self.granted: set[Member] = set()
        self.refused: set[Member] = set()

    def _ask(self, *, term: int, pre: bool, transfer: bool = False) -> None:
        raft, log = self.raft, self.raft.log
        for voter in sorted(log.membership.voters - {raft.member}):
            request = VoteRequest(
                source=raft.member, target=voter, term=term,
                last_index=log.last_index, last_term=log.last_term, pre=pre, transfer=transfer,
            )  # fmt: skip
            raft.send(request) if pre else raft.send_after_sync(request)

    def _count(self, response: VoteResponse) -> bool:
        """True once a majority has granted it. A majority of refusals ends the attempt."""
        (self.granted if response.granted else self.refused).add(response.source)
        membership = self.raft.log.membership
        if membership.is_quorum(self.granted):
            return True
        if membership.is_quorum(self.refused):
            self.raft.become_follower(self.raft.term, None)
        return False


class PreCandidate(_Seeker):
    """Finds out whether it would be elected, before it raises the term and so disturbs everybody.

    It asks again soon: the question disturbs nobody, and whoever could not be reached just now may be the one that is
    needed, as where a voter comes back.
    """

    def __init__(self, raft: "Raft") -> None:
        super().__init__(raft)
        ticks = raft.config.election_ticks
        self.time_out = min(self.time_out, 2 + raft.random.randrange(0, 1 + ticks // 2))
        self.granted.add(raft.member)
        self._ask(term=raft.term + 1, pre=True)

    def flush(self, *, tell_commit: bool) -> None:
        if self.raft.log.membership.is_quorum(self.granted):  # the only voter
            self.raft.become(Candidate(self.raft))

    def _on_vote_response(self, response: VoteResponse) -> None:
        current = response.term == self.raft.term + 1 if response.granted else True
        if response.pre and current and self._count(response):
            self.raft.become(Candidate(self.raft))

    handlers: ClassVar[dict[type[Message], Callable[..., None]]] = {
        VoteRequest: Role._on_vote_request,
        AppendRequest: Role._follow,
        Heartbeat: Role._follow,
        SnapshotChunk: Role._follow,
        TimeoutNow: Role._follow,
        VoteResponse: _on_vote_response,
        AppendResponse: Role._ignore,
        HeartbeatResponse: Role._ignore,
        SnapshotResponse: Role._ignore,
    }


class Candidate(_Seeker):
    """Has voted for itself in a new term; its own vote counts once it is on stable storage, like any other."""

    def __init__(self, raft: "Raft", *, transfer: bool = False) -> None:
        super().__init__(raft)
        raft.term += 1
        raft.vote = raft.member
        raft.leader = None
        self._ask(term=raft.term, pre=False, transfer=transfer)
        own = VoteResponse(source=raft.member, target=raft.member, term=raft.term, granted=True)
        raft.send_after_sync(own)

    def _on_vote_response(self, response: VoteResponse) -> None:
        if not response.pre and self._count(response):
            self.raft.become_leader()

    handlers: ClassVar[dict[type[Message], Callable[..., None]]] = {
        VoteRequest: Role._on_vote_request,
        AppendRequest: Role._follow,
        Heartbeat: Role._follow,
        SnapshotChunk: Role._follow,
        TimeoutNow: Role._follow,
        VoteResponse: _on_vote_response,
        AppendResponse: Role._ignore,
        HeartbeatResponse: Role._ignore,
        SnapshotResponse: Role._ignore,
    }
