"""One member of a quorum: what all roles share, the inputs, and what comes out (`Ready`).

How a driver uses it:

    core.step(message) | core.tick() | core.propose(…) | core.read(…) | …
    while ready := core.ready():
        send ready.messages                      at once, also while the journal syncs
        persist ready.hard_state, .snapshot, .entries, in the order of the readies, with as few syncs as it likes
        restore ready.snapshot; apply ready.committed; answer ready.reads
        when it is on stable storage: send ready.messages_after_sync, then core.persisted(ready.number)

A leader's entries travel while its own journal syncs; it counts itself only by `persisted` (dissertation 10.2.1).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ottla.core.ports import Random
from ottla.raft.core import roles
from ottla.raft.core.entries import Entry, HardState, ReadState, Snapshot
from ottla.raft.core.errors import NotLeading
from ottla.raft.core.incoming import IncomingSnapshot
from ottla.raft.core.leader import Leader
from ottla.raft.core.log import RaftLog
from ottla.raft.core.membership import Member
from ottla.raft.core.messages import FROM_LEADER, HeartbeatResponse, Message, VoteRequest, VoteResponse

# Who may become what; `Raft.become` refuses the rest.
TRANSITIONS: dict[type[roles.Role], frozenset[type[roles.Role]]] = {
    roles.Follower: frozenset({roles.Follower, roles.PreCandidate, roles.Candidate}),  # Candidate: asked by its leader
    roles.PreCandidate: frozenset({roles.Follower, roles.PreCandidate, roles.Candidate}),
    roles.Candidate: frozenset({roles.Follower, roles.PreCandidate, Leader}),
    Leader: frozenset({roles.Follower}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What may be set. Ticks are whatever the driver makes them; it should tick several times per heartbeat."""

    member: Member
    election_ticks: int = 10
    """A follower that hears nothing for this many to twice as many ticks asks for an election."""
    heartbeat_ticks: int = 2
    patience_rounds: int = 4
    """Heartbeat rounds answered by a follower before what it was sent earlier is taken for lost."""
    max_append_bytes: int = 1 << 20
    """Of the entries of one request (a single larger entry travels alone)."""
    max_in_flight_bytes: int = 4 << 20
    """Of the requests to one follower that are not answered yet."""
    max_uncommitted_bytes: int = 64 << 20
    """Beyond it the leader takes no proposal."""
    chunk_bytes: int = 256 << 10
    """Of a snapshot, in one message."""
    kept_entries: int = 1000
    """Entries before a snapshot that are kept for followers that are a little behind."""

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_ticks < self.election_ticks:
            raise ValueError("heartbeat_ticks must be at least 1 and less than election_ticks")


@dataclass(slots=True, kw_only=True)
class Ready:
    """What a driver has to do next; see the module."""

    number: int
    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    """Replaces the journal's content and the state machine's."""
    entries: Sequence[Entry] = ()
    """The first one replaces what the journal holds at its index and after."""
    messages: list[Message] = field(default_factory=list)
    messages_after_sync: list[Message] = field(default_factory=list)
    committed: Sequence[Entry] = ()
    reads: list[ReadState] = field(default_factory=list)

    @property
    def must_persist(self) -> bool:
        return self.hard_state is not None or self.snapshot is not None or bool(self.entries)


class Raft:
    """The state of one member (figure 2 of the paper) and its present role."""

    def __init__(
        self, config: Config, random: Random, hard_state: HardState, snapshot: Snapshot, entries: Sequence[Entry] = ()
    ) -> None:
        self.config, self.random, self.member = config, random, config.member
        self.term, self.vote = hard_state.term, hard_state.vote
        self.log = RaftLog(snapshot, entries)
        self.leader: Member | None = None
        self.incoming = IncomingSnapshot()
        self.reads: list[ReadState] = []
        self._outbox: list[Message] = []
        self._outbox_after_sync: list[Message] = []
        self._own: dict[int, list[Message]] = {}  # to itself, once that ready is persisted
        self._handed_state = hard_state
        self._handed_index = self.log.last_index  # entries up to here were handed to the journal
        self._snapshot: Snapshot | None = None  # received, to be handed out
        self._number = 0
        self._persisting: deque[tuple[int, int, int]] = deque()  # (number, last index, its term)
        self.role: roles.Role = roles.Follower(self)

    # -- inputs

    def tick(self) -> None:
        """One unit of time has passed."""
        self.role.tick()

    def step(self, message: Message) -> None:
        """A message has arrived. What is addressed to a former member of this node's name is not for this one."""
        if message.target != self.member:
            return
        if message.term > self.term and not self._follow_newer_term(message):
            return
        if message.term < self.term:
            self._answer_older_term(message)
        else:
            self.role.handle(message)

    def propose(self, data: bytes, *, client: int = 0, sequence: int = 0, resolved_below: int = 0) -> tuple[int, int]:
        """Append a proposal; returns the (index, term) at which it will be committed, unless leadership changes."""
        return self.leading().propose(data, client, sequence, resolved_below)

    def read(self, context: object) -> None:
        """Ask for a `ReadState` that names `context` (section 8); it is forgotten when leadership ends."""
        self.leading().read(context)

    def open_session(self) -> tuple[int, int]:
        """Append the entry that opens a client's session: its index is the client's id. Returns (index, term)."""
        return self.leading().open_session()

    def add_voter(self, member: Member, endpoint: str = "") -> int:
        """Bring a new member up to date as a learner, then make it a voter; the index of the first step."""
        return self.leading().change(self.log.membership.with_learner(member, endpoint))

    def remove(self, member: Member) -> int:
        """Remove a member; a leader that removes itself leads until that is committed."""
        return self.leading().change(self.log.membership.without(member))

    def transfer_leadership(self, member: Member) -> None:
        """Hand over to a voter as soon as it has all entries; given up after an election's time-out."""
        self.leading().transfer(member)

    def campaign(self) -> None:
        """Seek to be elected now, without waiting for the time-out."""
        if not isinstance(self.role, Leader):
            roles.campaign(self)

    def unreachable(self, member: Member) -> None:
        """The connection to this member broke: what was on its way is lost, and the member may be dead."""
        self.role.unreachable(member)

    def connected(self, member: Member) -> None:
        """A connection to this member stands: what was sent before may be lost."""
        self.role.connected(member)

    def compact(self, snapshot_index: int, data: bytes) -> Snapshot:
        """The state machine's state at an applied index replaces the entries that led to it."""
        term = self.log.term_at(snapshot_index)
        if term is None:
            raise ValueError(f"entry {snapshot_index} is compacted already")
        snapshot = Snapshot(snapshot_index, term, self.log.membership_at(snapshot_index), data)
        self.log.compact(snapshot, snapshot_index + 1 - self.config.kept_entries)
        return snapshot

    def persisted(self, number: int) -> None:
        """Everything up to the ready of this number is on stable storage."""
        log = self.log
        while self._persisting and self._persisting[0][0] <= number:
            done, index, term = self._persisting.popleft()
            if log.term_at(index) == term:  # else it was truncated meanwhile
                log.stable = max(log.stable, index)
            for message in self._own.pop(done, ()):
                self.step(message)
        self.role.stabilised()

    # -- what a driver may ask

    @property
    def ticks_until_due(self) -> int:
        """The first of the next ticks that does more than count, unless something happens before."""
        return self.role.ticks_until_due

    @property
    def is_persisting(self) -> bool:
        """The last ready, or one before it, waits for `persisted`."""
        return bool(self._persisting)

    @property
    def owes_commit(self) -> bool:
        """Followers do not know of what is committed, and no entries are on their way to tell them."""
        return isinstance(self.role, Leader) and self.role.owes_commit

    @property
    def is_handing_over(self) -> bool:
        """A transfer of leadership is under way."""
        return isinstance(self.role, Leader) and self.role.successor is not None

    def best_successor(self) -> Member | None:
        """The voter that lacks least of this leader's log; None when no other one answers."""
        return self.role.best_successor() if isinstance(self.role, Leader) else None

    def matched(self) -> dict[Member, int]:
        """Up to which entry each member is known to hold this leader's log durably; empty when another one leads."""
        if not isinstance(self.role, Leader):
            return {}
        matched = {member: progress.match for member, progress in self.role.progress.items()}
        return {**matched, self.member: self.log.stable}

    # -- output

    def ready(self, *, tell_commit: bool = True) -> Ready | None:
        """What is to be done now; None when there is nothing.

        Entries tell followers what is committed. Where none follow, messages without entries do, unless `tell_commit`
        is False: then the leader `owes_commit`, and it is for the driver to ask again, soon.
        """
        self.role.flush(tell_commit=tell_commit)
        log = self.log
        after = self._outbox_after_sync
        upto = min(log.commit, log.stable)
        if not (self._has_news or after or self._outbox or upto > log.applied or self.reads):
            return None
        state = HardState(self.term, self.vote)
        committed: Sequence[Entry] = ()
        if upto > log.applied:
            committed = log.slice(log.applied + 1, upto + 1, 4 * self.config.max_append_bytes)
        ready = Ready(
            number=self._number + 1,
            hard_state=state if state != self._handed_state else None,
            snapshot=self._snapshot,
            entries=log.entries[self._handed_index - log.base_index :] if self._handed_index < log.last_index else (),
            messages=self._outbox,
            committed=committed,
            reads=self.reads,
        )
        self._number = ready.number
        self._outbox, self._outbox_after_sync, self.reads, self._snapshot = [], [], [], None
        self._handed_state, self._handed_index = state, log.last_index
        if committed:
            log.applied = committed[-1].index
        self._release(ready, after)
        return ready

    @property
    def _has_news(self) -> bool:
        """Something is to be persisted."""
        handed = self._handed_state
        return (
            self.log.last_index > self._handed_index
            or self.term != handed.term
            or self.vote != handed.vote
            or self._snapshot is not None
        )

    def _release(self, ready: Ready, after: list[Message]) -> None:
        """Messages that state something as durable wait for what is being persisted, if anything is."""
        if ready.must_persist or self._persisting:
            self._persisting.append((ready.number, self.log.last_index, self.log.last_term))
            ready.messages_after_sync = [m for m in after if m.target != self.member]
            self._own[ready.number] = [m for m in after if m.target == self.member]
        else:
            ready.messages += after

    # -- for the roles

    def become(self, role: roles.Role) -> None:
        if type(role) not in TRANSITIONS[type(self.role)]:
            raise RuntimeError(f"a {type(self.role).__name__} does not become a {type(role).__name__}")
        self.role = role

    def become_follower(self, term: int, leader: Member | None) -> None:
        """Of a newer term, or of this one."""
        if term > self.term:
            self.term, self.vote = term, None
        self.leader = leader
        self.become(roles.Follower(self))

    def become_leader(self) -> None:
        self.leader = self.member
        self.become(leader := Leader(self))
        leader.open_term()

    def leading(self) -> Leader:
        if not isinstance(self.role, Leader):
            raise NotLeading(self.leader)
        return self.role

    def send(self, message: Message) -> None:
        self._outbox.append(message)

    def send_after_sync(self, message: Message) -> None:
        """Something that is only true once all that this member holds now is on stable storage."""
        self._outbox_after_sync.append(message)

    def merge(self, entries: Sequence[Entry]) -> None:
        """A leader's entries; whatever they replace is handed to the journal anew."""
        if new := self.log.merge(entries):
            self._handed_index = min(self._handed_index, new[0].index - 1)

    def install(self, snapshot: Snapshot) -> None:
        """A leader's snapshot that is ahead of what this member knows as committed."""
        self.log.reset(snapshot)
        self._snapshot, self._handed_index = snapshot, snapshot.index

    # -- terms

    def _follow_newer_term(self, message: Message) -> bool:
        """Deal with a newer term than one's own; False when the message needs nothing more."""
        if isinstance(message, VoteRequest):
            if not message.transfer and self.role.hears_leader:
                return False  # a leader lives: do not let a stranger disturb it (dissertation 4.2.3)
            if message.pre:
                roles.answer_pre_vote(self, message)
                return False
        if isinstance(message, VoteResponse) and message.pre and message.granted:
            self.role.handle(message)  # the term is the one that was asked about
            return False
        self.become_follower(message.term, message.source if isinstance(message, FROM_LEADER) else None)
        return True

    def _answer_older_term(self, message: Message) -> None:
        """Tell a sender that it is behind; without that, pre-vote and quorum checks could keep it so for ever."""
        if isinstance(message, VoteRequest):
            refusal = VoteResponse(
                source=self.member, target=message.source, term=self.term, granted=False, pre=message.pre
            )
            self.send(refusal)
        elif isinstance(message, FROM_LEADER):
            self.send(HeartbeatResponse(source=self.member, target=message.source, term=self.term, round=0))
