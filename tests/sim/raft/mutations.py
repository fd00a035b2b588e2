"""Planted bugs: what a simulator must find before anybody believes it that there are no others.

Each one changes production classes for as long as its context lasts. Most are bugs that Raft implementations had.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from ottla.raft.core import Entry, EntryKind, HardState, Member, Membership, Raft, Snapshot
from ottla.raft.core.leader import Leader
from ottla.raft.core.log import RaftLog
from ottla.raft.core.membership import Membership as MembershipClass
from ottla.raft.core.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    SnapshotChunk,
    VoteRequest,
    VoteResponse,
)
from ottla.raft.core.roles import Candidate, Follower, Role
from ottla.raft.driver import RaftNode
from ottla.raft.journal import Change, Journal, frames, recovery
from ottla.raft.quorum import NotLeader
from ottla.raft.sessions import Sessions, Standing
from ottla.testing.sim.files import SimFiles
from tests.sim.raft.administrator import Administrator
from tests.sim.raft.host import Host

Mutation = Callable[[], AbstractContextManager[object]]

MUTATIONS: dict[str, Mutation] = {}


def planted(name: str) -> Callable[[Callable[[], Iterator[None]]], Mutation]:
    """Registers a generator that plants a bug, yields, and takes it out."""

    def register(plant: Callable[[], Iterator[None]]) -> Mutation:
        MUTATIONS[name] = mutation = contextmanager(plant)
        return mutation

    return register


def replaced(owner: Any, name: str, value: Any) -> AbstractContextManager[object]:
    return patch.object(owner, name, value)


# -- durability


@planted("acknowledge before sync")
def acknowledge_before_sync() -> Iterator[None]:
    def send_after_sync(self: Raft, message: Message) -> None:
        own = message.target == self.member
        (self._outbox_after_sync if own else self._outbox).append(message)

    with replaced(Raft, "send_after_sync", send_after_sync):
        yield


@planted("leader counts itself before its sync")
def leader_counts_itself_early() -> Iterator[None]:
    def held_by(self: Leader, member: Member) -> int:
        return self.raft.log.last_index if member == self.raft.member else self.progress[member].match

    with replaced(Leader, "_held_by", held_by):
        yield


@dataclass(frozen=True, slots=True)
class _Changed:
    hard_state: HardState | None
    snapshot: Snapshot | None
    entries: Sequence[Entry]


def _persisting(change: Callable[[Change], Change]) -> AbstractContextManager[object]:
    honest = Journal.persist

    def persist(self: Journal, changes: Sequence[Change]) -> None:
        honest(self, [change(one) for one in changes])

    return replaced(Journal, "persist", persist)


@planted("vote not persisted")
def vote_not_persisted() -> Iterator[None]:
    def without_vote(change: Change) -> Change:
        state = change.hard_state
        return _Changed(HardState(state.term, None) if state else None, change.snapshot, change.entries)

    with _persisting(without_vote):
        yield


@planted("term and vote not persisted")
def hard_state_not_persisted() -> Iterator[None]:
    with _persisting(lambda change: _Changed(None, change.snapshot, change.entries)):
        yield


@planted("failed sync ignored")
def failed_sync_ignored() -> Iterator[None]:
    honest = Journal.persist

    def persist(self: Journal, changes: Sequence[Change]) -> None:
        try:
            honest(self, changes)
        except OSError:
            self._unusable = ""

    with replaced(Journal, "persist", persist):
        yield


@planted("torn journal tail accepted")
def torn_tail_accepted() -> Iterator[None]:
    def read_frame(content: bytes, file: int, position: int) -> frames.Frame | None:
        header = frames.read_header(content, position, file, position)
        if header is None:
            return None
        start = position + frames.HEADER_BYTES
        return frames.Frame(header.kind, content[start : start + header.length], start + header.length)

    with replaced(recovery, "read_frame", read_frame):
        yield


@planted("directory not synced after rename")
def directory_not_synced() -> Iterator[None]:
    with replaced(SimFiles, "sync_directory", lambda self, path: self.happens("sync_directory", path)):
        yield


@planted("emptied voter votes again")
def emptied_voter_votes_again() -> Iterator[None]:
    """Whoever replaces a disk starts the same member on the empty one."""

    async def replace_disk(self: Administrator, host: Host) -> None:
        member, bootstrap = host.member, self.hosts[0].first_bootstrap
        host.format(bootstrap)
        host.member = member
        self.checker.forget(member)
        self.lost.remove(host)
        host.start()

    with replaced(Administrator, "replace", replace_disk):
        yield


# -- logs and commitment


@planted("commit of an older term by counting")
def older_term_committed_by_counting() -> Iterator[None]:
    def commit(self: Leader) -> None:
        raft, log = self.raft, self.raft.log
        held = log.membership.reached_by_quorum(self._held_by)
        if held > log.commit:
            log.commit_to(held)
        if raft.member not in log.membership.voters and log.membership_index <= log.commit:
            raft.become_follower(raft.term, None)

    with replaced(Leader, "_commit", commit):
        yield


@planted("truncation without a conflict")
def truncation_without_a_conflict() -> Iterator[None]:
    def merge(self: RaftLog, entries: Sequence[Entry]) -> Sequence[Entry]:
        new = [entry for entry in entries if entry.index > max(self.base_index, self.commit)]
        if new and new[0].index <= self.last_index:
            self.truncate(new[0].index)
        self.append(new)
        return new

    with replaced(RaftLog, "merge", merge):
        yield


@planted("commit index beyond what the follower matched")
def commit_beyond_match() -> Iterator[None]:
    def on_append(self: Follower, request: AppendRequest) -> None:
        honest(self, request)
        log = self.raft.log
        if request.previous_index <= log.last_index:
            log.commit_to(min(request.commit, log.last_index))

    honest = Follower._on_append
    with patch.dict(Follower.handlers, {AppendRequest: on_append}):
        yield


@planted("heartbeat commits what is not matched")
def heartbeat_commits_unmatched() -> Iterator[None]:
    def heartbeat(self: Leader) -> None:
        self.heartbeat_due = False
        self.round += 1
        raft = self.raft
        for member in self.progress:
            raft.send(
                Heartbeat(source=raft.member, target=member, term=raft.term, round=self.round, commit=raft.log.commit)
            )
        self._confirm_reads()

    def on_heartbeat(self: Follower, message: Heartbeat) -> None:
        honest(self, replace(message, commit=min(message.commit, self.raft.log.last_index)))

    honest = Follower._on_heartbeat
    with replaced(Leader, "_heartbeat", heartbeat), patch.dict(Follower.handlers, {Heartbeat: on_heartbeat}):
        yield


@planted("snapshot chunk moves the commit index without matching")
def chunk_moves_commit() -> Iterator[None]:
    def on_chunk(self: Follower, chunk: SnapshotChunk) -> None:
        self.raft.log.commit_to(min(chunk.index, self.raft.log.last_index))
        honest(self, chunk)

    honest = Follower._on_chunk
    with patch.dict(Follower.handlers, {SnapshotChunk: on_chunk}):
        yield


@planted("follower acknowledges all that it holds")
def acknowledges_all() -> Iterator[None]:
    """Not only as far as the request tells that the logs are equal."""

    def answer(self: Follower, request: AppendRequest, *, matched: bool, index: int, hint_term: int = 0) -> None:
        honest(
            self, request, matched=matched, index=self.raft.log.last_index if matched else index, hint_term=hint_term
        )

    honest = Follower._answer
    with replaced(Follower, "_answer", answer):
        yield


@planted("reply of an older term accepted")
def older_reply_accepted() -> Iterator[None]:
    def step(self: Raft, message: Message) -> None:
        if isinstance(message, VoteResponse | AppendResponse | HeartbeatResponse) and message.term < self.term:
            message = replace(message, term=self.term)
        honest(self, message)

    honest = Raft.step
    with replaced(Raft, "step", step):
        yield


# -- elections and members


@planted("vote without the up-to-date check")
def vote_without_check() -> Iterator[None]:
    with replaced(RaftLog, "is_up_to_date", lambda self, last_index, last_term: True):
        yield


@planted("two votes in a term")
def two_votes() -> Iterator[None]:
    def on_vote_request(self: Role, request: VoteRequest) -> None:
        if not request.pre and self.raft.leader is None:
            self.raft.vote = None
        honest(self, request)

    honest = Role._on_vote_request
    handled = {VoteRequest: on_vote_request}
    with patch.dict(Follower.handlers, handled), patch.dict(Candidate.handlers, handled):
        yield


@planted("learners count")
def learners_count() -> Iterator[None]:
    def reached_by_quorum(self: Membership, value: Callable[[Member], int]) -> int:
        ordered = sorted((value(member) for member in self.members), reverse=True)
        return ordered[len(self.voters) // 2]

    with replaced(MembershipClass, "reached_by_quorum", reached_by_quorum):
        yield


def _change(*, own_term: bool, one_at_a_time: bool) -> Callable[[Leader, Membership], int]:
    honest = Leader.change

    def change(self: Leader, membership: Membership) -> int:
        log = self.raft.log
        missing_term = not self.may_read and not own_term
        unfinished = log.membership_index > log.commit and not one_at_a_time
        if missing_term or unfinished:
            return self._append(EntryKind.MEMBERSHIP, membership.encode())
        return honest(self, membership)

    return change


def _leads_at_once(self: RaftNode) -> NotLeader | None:
    """Takes requests before the first entry of its term is applied."""
    return None if self.core.leader == self.core.member else NotLeader(self.leader)


@planted("two voter changes at once")
def two_changes() -> Iterator[None]:
    with replaced(Leader, "change", _change(own_term=True, one_at_a_time=False)):
        yield


@planted("voter change before an own-term commit")
def change_before_own_term() -> Iterator[None]:
    with (
        replaced(Leader, "change", _change(own_term=False, one_at_a_time=True)),
        replaced(RaftNode, "_not_leader", _leads_at_once),
    ):
        yield


# -- reads and sessions


@planted("read index without a quorum")
def read_without_quorum() -> Iterator[None]:
    def confirm_reads(self: Leader) -> None:
        self.raft.reads += self.reads.confirmed(self.round)

    with replaced(Leader, "_confirm_reads", confirm_reads):
        yield


@planted("read index before an own-term commit")
def read_before_own_term() -> Iterator[None]:
    """Of two guards: the core's, and the driver's, which refuses reads until what the new leader found is applied and
    would hide the other's absence. Proposals and changes of members wait as ever.
    """

    def flush(self: Leader, *, tell_commit: bool) -> None:
        if self.reads.register(self.raft.log.commit, self.round + 1):
            self.heartbeat_due = True
        honest(self, tell_commit=tell_commit)

    def read_barrier(self: RaftNode) -> Awaitable[int]:
        with replaced(RaftNode, "_not_leader", _leads_at_once):
            return honest_barrier(self)

    honest, honest_barrier = Leader.flush, RaftNode.read_barrier
    with replaced(Leader, "flush", flush), replaced(RaftNode, "read_barrier", read_barrier):
        yield


@planted("lost de-duplication after a snapshot")
def deduplication_lost() -> Iterator[None]:
    honest = Sessions.decode.__func__  # type: ignore[attr-defined]

    def decode(cls: type[Sessions], data: bytes, limit: int = 10_000) -> Sessions:
        sessions: Sessions = honest(cls, data, limit)
        for session in sessions._sessions.values():
            session.results.clear()
        return sessions

    with replaced(Sessions, "decode", classmethod(decode)):
        yield


@planted("late copy of a resolved proposal applied")
def late_copy_applied() -> Iterator[None]:
    def standing(self: Sessions, client: int, sequence: int) -> bytes | Standing:
        session = self._sessions.get(client)
        return session.results.get(sequence, Standing.NEW) if session is not None else Standing.UNKNOWN

    with replaced(Sessions, "standing", standing):
        yield


@planted("retries not de-duplicated")
def not_deduplicated() -> Iterator[None]:
    def standing(self: Sessions, client: int, sequence: int) -> bytes | Standing:
        return Standing.NEW if client in self._sessions else Standing.UNKNOWN

    with replaced(Sessions, "standing", standing):
        yield
