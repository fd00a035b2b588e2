"""Drives the consensus core: persists, sends and applies what it says, tells it of time and messages.

    propose, message, tick ──▶ core ──▶ Ready ──┬──▶ transport            at once, also while a sync runs
                                                ├──▶ journal, in a job ──▶ what depends on it, then core.persisted
                                                └──▶ replica ──▶ proposers, readers, observers

One turn of the loop makes one Ready: proposals that came in together are written and sent together, and what comes in
while the journal syncs goes into its next write. A journal that fails ends the node's part in the quorum (fail-stop):
what the disk holds is then only known again at the next start.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self, TypeVar

import structlog

from ottla.core.errors import DecodeError, StorageError
from ottla.core.ports import Clock, Disk, Random
from ottla.core.types import NodeId
from ottla.raft.asked import Asked, done, failed, new_future
from ottla.raft.core import EntryKind, Member, Membership, NotLeading, Raft, Ready, SafetyViolation
from ottla.raft.core import Snapshot as LogSnapshot
from ottla.raft.core.messages import Message
from ottla.raft.journal import Journal, Stored
from ottla.raft.quorum import Committed, LogObserver, NotLeader, ProposalLost, RequestId, StateMachine
from ottla.raft.replica import Replica
from ottla.raft.saving import Saving
from ottla.raft.settings import RaftSettings
from ottla.raft.ticking import Ticking
from ottla.raft.transport import Transport

__all__ = ["NOBODY", "RaftNode", "RaftSettings"]

logger = structlog.get_logger(__name__)

T = TypeVar("T")

NOBODY: Final = Membership(frozenset())
"""What a member starts with that others are to add: it waits for a leader to reach it."""


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
        self._machine, self._clock, self._transport = machine, clock, transport
        self._saving = Saving(journal, disk, clock, persisted=self._persisted, failed=self._fail)
        self._asked = Asked()
        self._replica = Replica(machine, kept_entries=settings.kept_entries)
        if stored.snapshot.index:
            self._replica.restore(stored.snapshot)
        self._snapshot_bytes = len(stored.snapshot.data)
        self._pumping = False
        self._telling = False
        self._ticking = Ticking(self.core, settings, clock, self._ticked)
        self._told: tuple[NodeId | None, int] = (None, 0)
        self._reached: Membership | None = None
        self._opened_term = 0  # of which this leader's first entry is applied: only then is the state the log's
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
        if stored.torn_bytes:
            logger.warning(
                "the quorum's journal ended in an unfinished write, of which nobody was told; it was cut off",
                directory=settings.directory,
                torn_bytes=stored.torn_bytes,
            )
        return cls(settings, machine, journal, stored, clock=clock, random=random, disk=disk, transport=transport)

    def start(self) -> None:
        """Take part from now on."""
        self._transport.start(self)
        self._ticking.start()
        if self.core.log.membership.voters == {self.core.member}:
            self.core.campaign()  # there is nobody to wait for
        self._pump()

    async def until_led(self) -> None:
        """Return once a leader is known; when it is this node, once it may be asked. Raises StorageError."""
        while self._failure is None and self._told[0] is None:
            await self._asked.leader()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """End this node's part, after the write that is under way. A leader hands over first: `transfer_leadership`."""
        if self._closed is None:
            closed = self._closed = new_future()
            self._stop(StorageError(f"{self.settings.directory} is closed"))
            await self._transport.close()
            self._saving.close(lambda: closed.set_result(None))
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
            return done(Committed(self._replica.applied_index, known))
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
            self.core.read(self._asked.next_read())
            return self._asked.read()

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
            return done(None) if member == self.core.member else self._asked.transfer()

        return self._lead(ask)

    def _propose(self, append: Callable[[], tuple[int, int]]) -> "Awaitable[Committed]":
        return self._lead(lambda: self._asked.proposal(*append()))

    def _change(self, append: Callable[[], int], is_done: Callable[[Membership], bool]) -> Awaitable[None]:
        def ask() -> asyncio.Future[None]:
            append()
            return self._asked.change(is_done)

        return self._lead(ask)

    def _lead(self, ask: "Callable[[], asyncio.Future[T]]") -> "asyncio.Future[T]":
        """What a leader is asked; every error comes out of the future."""
        if (refusal := self._failure or self._not_leader()) is not None:
            return failed(refusal)
        try:
            future = ask()
        except NotLeading as error:
            return failed(NotLeader(error.leader.node if error.leader else None, str(error)))
        except Exception as error:  # MembershipError, Overloaded, StorageError: the caller's to judge
            return failed(error)
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
        self._ticking.catch_up()
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
            self._ticking.catch_up()
            self.core.unreachable(member)
            self._pump_soon()

    def connected(self, node: NodeId) -> None:
        """See `transport.Receiver`."""
        member = self.membership.member_of(node)
        if self._failure is None and member is not None:
            self._ticking.catch_up()
            self.core.connected(member)
            self._pump_soon()

    def _ticked(self) -> None:
        self._resign_when_stalled()
        if self._asked.has_transfers and not self.core.is_handing_over and self.is_leader:
            self._asked.end_transfers(ProposalLost(self.leader, "the successor did not take over in time"))
        self._pump()

    def _resign_when_stalled(self) -> None:
        stalled_ms = self._saving.busy_ms
        if stalled_ms <= self.settings.stalled_after_ms or self.core.leader != self.core.member:
            return
        if (successor := self.core.best_successor()) is not None:
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
        self._asked.answer_reads(self._replica.applied_index)
        self._follow_leadership()
        self._follow_membership()
        self._saving.go_on()
        if self._saving.is_due(max(self.settings.snapshot_after_bytes, 2 * self._snapshot_bytes)):
            self._save_snapshot()
        self._ticking.wait(each=self._saving.is_busy)  # a leader whose disk stalls is to notice it soon
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
                self._saving.add(ready)
            if ready.snapshot is not None:
                self._replica.restore(ready.snapshot)
                self._snapshot_bytes = len(ready.snapshot.data)
            for entry in ready.committed:
                outcome = self._replica.apply(entry)
                if entry.kind is EntryKind.EMPTY:
                    self._opened_term = entry.term
                self._asked.applied(entry, outcome, self.leader)
            for read in ready.reads:
                assert isinstance(read.context, int)
                self._asked.confirmed(read.context, read.index)

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
            self._asked.lose(ProposalLost(self.leader))
        if self.leader is not None:
            self._asked.end_transfers(None)
        self._asked.leader_changed()
        self._machine.leadership_changed(*now)

    def _follow_membership(self) -> None:
        log = self.core.log
        if log.membership is not self._reached:
            self._reached = log.membership
            mine = self.core.member
            self._transport.reach({m.node: at for m, at in log.membership.endpoints.items() if m != mine})
        if log.membership_index <= log.commit:
            self._asked.committed(log.membership)

    # -- the journal

    def _persisted(self, readies: list[Ready]) -> None:
        for ready in readies:
            for message in ready.messages_after_sync:
                self._transport.send(message)
            self.core.persisted(ready.number)
        self._pump()

    def _save_snapshot(self) -> None:
        """The state so far; then the entries that led to it go."""
        log, index = self.core.log, self._replica.applied_index
        term = log.term_at(index)
        if index <= log.snapshot.index or term is None:
            return
        membership, encode = log.membership_at(index), self._replica.freeze()
        self._saving.save(lambda: LogSnapshot(index, term, membership, encode()), self._saved)

    def _saved(self, snapshot: LogSnapshot) -> None:
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
        self._ticking.stop()
        self._saving.stop()
        self._asked.lose(why)
        self._asked.end_transfers(why)
        self._asked.leader_changed()
        self._machine.leadership_changed(None, self.core.term)
