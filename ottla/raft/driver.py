"""Drives the consensus core: persists, sends and applies what it says, tells it of time and messages.

    propose, message, tick ──▶ core ──▶ Ready ──┬──▶ transport            at once, also while a sync runs
                                                ├──▶ journal, in a job ──▶ what depends on it, then core.persisted
                                                └──▶ replica ──▶ proposers, readers, observers

One turn of the loop makes one Ready: proposals that came in together are written and sent together, and what comes in
while the journal syncs goes into its next write. A journal that fails ends the node's part in the quorum (fail-stop):
what the disk holds is then only known again at the next start.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import structlog

from ottla.core.errors import DecodeError, StorageError
from ottla.core.ports import Clock, Disk, Random, Timer
from ottla.core.types import NodeId
from ottla.raft.core import Config, EntryKind, Member, Membership, NotLeading, Raft, Ready, SafetyViolation
from ottla.raft.core import Entry as LogEntry
from ottla.raft.core import Snapshot as LogSnapshot
from ottla.raft.core.messages import Message
from ottla.raft.journal import Journal, Stored
from ottla.raft.quorum import Committed, LogObserver, NotLeader, ProposalLost, RequestId, StateMachine
from ottla.raft.replica import Outcome, Replica
from ottla.raft.transport import Transport

logger = structlog.get_logger(__name__)

T = TypeVar("T")

NOBODY: Final = Membership(frozenset())
"""What a member starts with that others are to add: it waits for a leader to reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """What may be set of one node's part. The core's own settings are described in `core.raft.Config`."""

    directory: str
    member: Member
    tick_ms: float = 50.0
    """A leader's heartbeat goes out every 4 ticks, an election begins after 10 to 20 of silence: 0.5 to 1 s. A leader
    whose process died is noticed by its connections, within 3 ticks."""
    election_ticks: int = 10
    heartbeat_ticks: int = 4
    """Heartbeats are most of what a group at rest costs: every 4 ticks 0.9 % of a core on the leader and 0.8 % on a
    follower, every 2 ticks 1.5 % and 1.2 % (`python -m bench.raft idle`, on a busy machine)."""
    max_append_bytes: int = 1 << 20
    max_in_flight_bytes: int = 4 << 20
    max_uncommitted_bytes: int = 64 << 20
    chunk_bytes: int = 256 << 10
    kept_entries: int = 1000
    snapshot_after_bytes: int = 4 << 20
    """Entries in the journal before the state is saved and they go; at least twice the size of the last snapshot."""
    segment_bytes: int = 4 << 20
    stalled_after_ms: float = 500.0
    """A leader whose oldest write is older hands over: it could not answer anybody."""

    def core_config(self) -> Config:
        """Raises ValueError for ticks that do not fit together."""
        return Config(
            member=self.member,
            election_ticks=self.election_ticks,
            heartbeat_ticks=self.heartbeat_ticks,
            max_append_bytes=self.max_append_bytes,
            max_in_flight_bytes=self.max_in_flight_bytes,
            max_uncommitted_bytes=self.max_uncommitted_bytes,
            chunk_bytes=self.chunk_bytes,
            kept_entries=self.kept_entries,
        )


class RaftNode:
    """Implements `Quorum` on the ports. Used on one loop; only `open` blocks."""

    def __init__(
        self,
        settings: RaftSettings,
        machine: StateMachine,
        journal: Journal,
        stored: Stored,
        *,
        clock: Clock,
        random: Random,
        disk: Disk,
        transport: Transport,
    ) -> None:
        self.settings = settings
        self.core = Raft(settings.core_config(), random, stored.hard_state, stored.snapshot, stored.entries)
        self.on_failure: Callable[[Exception], None] = lambda error: None  # this node has no part any more
        self._machine, self._journal = machine, journal
        self._clock, self._disk, self._transport = clock, disk, transport
        self._replica = Replica(machine, kept_entries=settings.kept_entries)
        if stored.snapshot.index:
            self._replica.restore(stored.snapshot)
        self._snapshot_bytes = len(stored.snapshot.data)
        self._unsaved: list[Ready] = []
        self._jobs: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._busy_since_ms: float | None = None  # a job that changes the journal is under way
        self._saving_snapshot = False
        self._pumping = False
        self._telling = False
        self._timer: Timer | None = None
        self._told: tuple[NodeId | None, int] = (None, 0)
        self._reached: Membership | None = None
        self._opened_term = 0  # of which this leader's first entry is applied: only then is the state the log's
        self._proposals: dict[int, tuple[int, asyncio.Future[Committed]]] = {}  # by index: (term, who waits)
        self._reads: dict[int, asyncio.Future[int]] = {}  # asked, by number
        self._reads_due: list[tuple[int, asyncio.Future[int]]] = []  # confirmed, once this index is applied
        self._read_count = 0
        self._changes: list[tuple[Callable[[Membership], bool], asyncio.Future[None]]] = []
        self._transfers: list[asyncio.Future[None]] = []
        self._leaderless: list[asyncio.Future[None]] = []
        self._failure: Exception | None = None
        self._closed: asyncio.Future[None] | None = None

    @classmethod
    def open(
        cls,
        settings: RaftSettings,
        machine: StateMachine,
        *,
        bootstrap: Membership,
        clock: Clock,
        random: Random,
        disk: Disk,
        transport: Transport,
    ) -> Self:
        """Read the journal. A new directory begins with the members `bootstrap`, the same on every one of them; with
        `NOBODY` the node waits to be added. Blocks: at start.

        Raises CorruptLog when something is damaged that may have been acknowledged, StorageError when the directory is
        another member's or of a newer version.
        """
        journal, stored = Journal.open(
            disk.files,
            settings.directory,
            member=settings.member,
            bootstrap=bootstrap,
            segment_bytes=settings.segment_bytes,
        )
        return cls(settings, machine, journal, stored, clock=clock, random=random, disk=disk, transport=transport)

    def start(self) -> None:
        """Take part from now on."""
        self._transport.start(self)
        self._timer = self._clock.call_later(self.settings.tick_ms, self._tick)
        if self.core.log.membership.voters == {self.core.member}:
            self.core.campaign()  # there is nobody to wait for
        self._pump()

    async def until_led(self) -> None:
        """Return once a leader is known; when it is this node, once it may be asked. Raises StorageError."""
        while self._failure is None and self._told[0] is None:
            self._leaderless.append(waiting := asyncio.get_running_loop().create_future())
            await waiting
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """End this node's part, after the write that is under way. A leader hands over first: `transfer_leadership`."""
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
            self._stop(StorageError(f"{self.settings.directory} is closed"))
            await self._transport.close()
            if self._busy_since_ms is None:
                self._finish_closing()
        await self._closed

    # -- what is known

    @property
    def is_leader(self) -> bool:
        """Whether this node leads and has applied all that earlier leaders committed."""
        core = self.core
        return core.leader == core.member and self._opened_term == core.term and self._failure is None

    @property
    def leader(self) -> NodeId | None:
        """The node that leads, as far as this one knows."""
        leader = self.core.leader
        return leader.node if leader is not None and self._failure is None else None

    @property
    def term(self) -> int:
        """The newest one that this node knows of."""
        return self.core.term

    @property
    def commit_index(self) -> int:
        """The index of the last entry that is applied here."""
        return self._replica.applied_index

    @property
    def membership(self) -> Membership:
        """The newest one in this node's log, committed or not."""
        return self.core.log.membership

    def matched(self) -> Mapping[Member, int]:
        """See `Quorum`."""
        return self.core.matched() if self.is_leader else {}

    @property
    def last_index(self) -> int:
        """See `Quorum`."""
        return self.core.log.last_index

    # -- what users ask

    def propose(self, data: bytes, request: RequestId | None = None) -> Awaitable[Committed]:
        """See `Quorum`."""
        if request is None:
            return self._propose(lambda: self.core.propose(data))
        known = self._replica.known_result(request.client, request.sequence)
        if known is not None and self.is_leader:
            return _done(Committed(self._replica.applied_index, known))
        return self._propose(
            lambda: self.core.propose(
                data, client=request.client, sequence=request.sequence, resolved_below=request.resolved_below
            )
        )

    async def open_session(self) -> int:
        """See `Quorum`."""
        return (await self._propose(self.core.open_session)).index

    def read_barrier(self) -> Awaitable[int]:
        """See `Quorum`."""

        def ask() -> asyncio.Future[int]:
            self._read_count += 1
            self.core.read(self._read_count)
            future = self._reads[self._read_count] = asyncio.get_running_loop().create_future()
            return future

        return self._lead(ask)

    def observe(self, observer: LogObserver, after_index: int) -> Callable[[], None]:
        """See `Quorum`."""
        return self._replica.observe(observer, after_index)

    def add_voter(self, member: Member, endpoint: str) -> Awaitable[None]:
        """See `Quorum`."""
        return self._change(lambda: self.core.add_voter(member, endpoint), lambda now: member in now.voters)

    def remove_member(self, member: Member) -> Awaitable[None]:
        """See `Quorum`."""
        return self._change(lambda: self.core.remove(member), lambda now: member not in now.members)

    def transfer_leadership(self, node: NodeId) -> Awaitable[None]:
        """See `Quorum`."""

        def ask() -> asyncio.Future[None]:
            member = self.membership.member_of(node)
            self.core.transfer_leadership(member or Member(node, self.core.member.directory))
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if member == self.core.member:
                future.set_result(None)
            else:
                self._transfers.append(future)
            return future

        return self._lead(ask)

    def _propose(self, append: Callable[[], tuple[int, int]]) -> "Awaitable[Committed]":
        def ask() -> asyncio.Future[Committed]:
            index, term = append()
            future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
            self._proposals[index] = (term, future)
            return future

        return self._lead(ask)

    def _change(self, append: Callable[[], int], is_done: Callable[[Membership], bool]) -> Awaitable[None]:
        def ask() -> asyncio.Future[None]:
            append()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changes.append((is_done, future))
            return future

        return self._lead(ask)

    def _lead(self, ask: "Callable[[], asyncio.Future[T]]") -> "asyncio.Future[T]":
        """What a leader is asked; every error comes out of the future."""
        if (refusal := self._failure or self._not_leader()) is not None:
            return _failed(refusal)
        try:
            future = ask()
        except NotLeading as error:
            return _failed(NotLeader(error.leader.node if error.leader else None, str(error)))
        except Exception as error:  # MembershipError, Overloaded, StorageError: the caller's to judge
            return _failed(error)
        self._pump_soon()
        return future

    def _not_leader(self) -> NotLeader | None:
        if self.is_leader:
            return None
        if self.core.leader == self.core.member:
            return NotLeader(None, "this node was just elected and still applies what earlier leaders committed")
        return NotLeader(self.leader)

    # -- events

    def receive(self, message: Message) -> None:
        """See `transport.Receiver`."""
        if self._failure is not None:
            return
        try:
            self.core.step(message)
        except SafetyViolation as error:
            self._fail(error)
        else:
            self._pump_soon()

    def unreachable(self, node: NodeId) -> None:
        """See `transport.Receiver`."""
        member = self.membership.member_of(node)
        if self._failure is None and member is not None:
            self.core.unreachable(member)
            self._pump_soon()

    def _tick(self) -> None:
        self._timer = self._clock.call_later(self.settings.tick_ms, self._tick)
        self.core.tick()
        self._resign_when_stalled()
        if self._transfers and not self.core.is_handing_over and self.is_leader:
            self._give_up_transfers()
        self._pump()

    def _give_up_transfers(self) -> None:
        for future in self._transfers:
            if not future.done():
                future.set_exception(ProposalLost(self.leader, "the successor did not take over in time"))
        self._transfers.clear()

    def _resign_when_stalled(self) -> None:
        since = self._busy_since_ms
        if since is None or self.core.leader != self.core.member:
            return
        stalled_ms = self._clock.monotonic_ms() - since
        if stalled_ms > self.settings.stalled_after_ms and (successor := self.core.best_successor()) is not None:
            logger.warning("the quorum's leader hands over: its disk stalls", stalled_ms=int(stalled_ms))
            self.core.transfer_leadership(successor)

    # -- what the core says

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._clock.call_soon(self._pump)

    def _pump(self, *, tell_commit: bool = False) -> None:
        self._pumping = False
        if self._failure is not None:
            return
        try:
            self._carry_out(tell_commit)
        except (SafetyViolation, DecodeError) as error:
            self._fail(error)
            return
        self._answer_reads()
        self._follow_leadership()
        self._follow_membership()
        self._next_job()
        if self.core.owes_commit and not self._telling:
            self._telling = True
            self._clock.call_soon(self._tell_commit)

    def _tell_commit(self) -> None:
        """A turn later than it could be: whoever waited for the commit may propose something in between, and then the
        commit travels with that. One proposal after the other costs half the messages so.
        """
        self._telling = False
        self._pump(tell_commit=True)

    def _carry_out(self, tell_commit: bool) -> None:
        core = self.core
        while (ready := core.ready(tell_commit=tell_commit)) is not None:
            for message in ready.messages:
                self._transport.send(message)
            if core.is_persisting:
                self._unsaved.append(ready)
            if ready.snapshot is not None:
                self._replica.restore(ready.snapshot)
                self._snapshot_bytes = len(ready.snapshot.data)
            for entry in ready.committed:
                self._resolve(entry, self._replica.apply(entry))
            for read in ready.reads:
                assert isinstance(read.context, int)
                if (waiting := self._reads.pop(read.context, None)) is not None:
                    self._reads_due.append((read.index, waiting))

    def _resolve(self, entry: LogEntry, outcome: Outcome) -> None:
        if entry.kind is EntryKind.EMPTY:
            self._opened_term = entry.term
        term, future = self._proposals.pop(entry.index, (0, None))
        if future is None or future.done():
            return
        if term != entry.term:
            future.set_exception(ProposalLost(self.leader, "another leader's entry took the proposal's place"))
        elif isinstance(outcome, bytes):
            future.set_result(Committed(entry.index, outcome))
        else:
            future.set_exception(outcome)

    def _answer_reads(self) -> None:
        if self._reads_due:
            applied = self._replica.applied_index
            for index, future in self._reads_due:
                if index <= applied and not future.done():
                    future.set_result(applied)
            self._reads_due = [due for due in self._reads_due if due[0] > applied]

    def _follow_leadership(self) -> None:
        """Tell the state machine once a node leads; this one, once it knows all that was committed before."""
        core = self.core
        if core.leader == core.member and not self.is_leader:
            return
        now = (self.leader, core.term)
        if now == self._told:
            return
        led, self._told = self._told[0] == core.member.node, now
        if led:
            self._lose(ProposalLost(self.leader))
        for future in self._transfers:
            if not future.done() and self.leader is not None:
                future.set_result(None)
        self._transfers = [future for future in self._transfers if not future.done()]
        self._wake_leaderless()
        self._machine.leadership_changed(*now)

    def _wake_leaderless(self) -> None:
        """They look for themselves."""
        waiting, self._leaderless = self._leaderless, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _lose(self, error: Exception) -> None:
        """What this node was asked as a leader will not be answered by it."""
        waiting = [future for _, future in self._proposals.values()]
        waiting_for_more: list[asyncio.Future[Any]] = [
            *waiting,
            *self._reads.values(),
            *(future for _, future in self._reads_due),
            *(future for _, future in self._changes),
        ]
        for future in waiting_for_more:
            if not future.done():
                future.set_exception(error)
        self._proposals.clear()
        self._reads.clear()
        self._reads_due.clear()
        self._changes.clear()

    def _follow_membership(self) -> None:
        log = self.core.log
        if log.membership is not self._reached:
            self._reached = log.membership
            mine = self.core.member
            self._transport.reach({m.node: at for m, at in log.membership.endpoints.items() if m != mine})
        if self._changes and log.membership_index <= log.commit:
            for is_done, future in self._changes:
                if is_done(log.membership) and not future.done():
                    future.set_result(None)
            self._changes = [change for change in self._changes if not change[1].done()]

    # -- the journal: one job at a time

    def _next_job(self) -> None:
        if self._busy_since_ms is not None or self._failure is not None:
            return
        if self._unsaved:
            readies, self._unsaved = self._unsaved, []
            if not any(ready.must_persist for ready in readies):
                self._persisted(readies)
                return
            journal = self._journal
            self._submit(lambda: journal.persist(readies), lambda _: self._persisted(readies))
        elif self._jobs:
            self._submit(*self._jobs.popleft())
        elif not self._saving_snapshot and self._journal.size_bytes > max(
            self.settings.snapshot_after_bytes, 2 * self._snapshot_bytes
        ):
            self._save_snapshot()

    def _submit(self, job: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._busy_since_ms = self._clock.monotonic_ms()

        def ended(result: Any, error: Exception | None) -> None:
            self._busy_since_ms = None
            if self._closed is not None:
                self._finish_closing()
            elif error is not None:
                self._fail(error)
            elif self._failure is None:
                then(result)

        self._disk.submit(job, ended)

    def _persisted(self, readies: list[Ready]) -> None:
        for ready in readies:
            for message in ready.messages_after_sync:
                self._transport.send(message)
            self.core.persisted(ready.number)
        self._pump()

    def _save_snapshot(self) -> None:
        """The state so far, in a job beside the journal's; then the entries that led to it go."""
        log, index = self.core.log, self._replica.applied_index
        term = log.term_at(index)
        if index <= log.snapshot.index or term is None:
            return
        membership, encode, journal = log.membership_at(index), self._replica.freeze(), self._journal
        self._saving_snapshot = True

        def save() -> LogSnapshot:
            snapshot = LogSnapshot(index, term, membership, encode())
            journal.save_snapshot(snapshot)
            return snapshot

        def saved(snapshot: LogSnapshot | None, error: Exception | None) -> None:
            if self._failure is not None:
                self._saving_snapshot = False
            elif snapshot is None:
                self._fail(error or StorageError("a snapshot was saved without a result"))
            else:
                self._jobs.append((lambda: journal.trim(snapshot), lambda _: self._trimmed(snapshot)))
                self._next_job()

        self._disk.submit(save, saved)

    def _trimmed(self, snapshot: LogSnapshot) -> None:
        self._saving_snapshot = False
        self._snapshot_bytes = len(snapshot.data)
        if snapshot.index > self.core.log.snapshot.index:  # else a leader's came in between
            self.core.compact(snapshot.index, snapshot.data)
            self._replica.compacted(snapshot)
        self._pump()

    # -- the end

    def _fail(self, error: Exception) -> None:
        directory = self.settings.directory
        logger.error("this node has no part in the quorum any more", directory=directory, error=str(error))
        self._stop(StorageError(f"{directory}: {error}; this node must be repaired and started again"))
        self.on_failure(error)

    def _stop(self, why: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = why
        if self._timer is not None:
            self._timer.cancel()
        self._lose(why)
        for future in self._transfers:
            if not future.done():
                future.set_exception(why)
        self._wake_leaderless()
        self._machine.leadership_changed(None, self.core.term)

    def _finish_closing(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._journal.close()
            self._closed.set_result(None)


def _failed(error: Exception) -> "asyncio.Future[Any]":
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


def _done(value: T) -> "asyncio.Future[T]":
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future
