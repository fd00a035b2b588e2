"""All promises in one place: who is to be looked at when, and what clients were told."""

from typing import TYPE_CHECKING

from ottla.core.types import NodeId
from ottla.raft.core import Member
from ottla.raft.core.messages import AppendResponse, Message, SnapshotChunk, VoteRequest, VoteResponse
from ottla.raft.driver import RaftNode
from ottla.testing.sim.files import Directory
from ottla.testing.sim.loop import SimLoop
from tests.sim.raft.durable import Durable
from tests.sim.raft.host import DIRECTORY, Host, Process
from tests.sim.raft.logs import Logs, Watch
from tests.sim.raft.setting import Setting
from tests.sim.raft.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Mapping


class Checker:
    """Raises `Violation` out of the world's step, or out of whatever a node does at the moment."""

    def __init__(self, setting: Setting, hosts: "Mapping[NodeId, Host]") -> None:
        self.setting, self.hosts = setting, hosts
        self.logs = Logs(setting.coverage, setting.network)
        self.durable = Durable(setting.random("durable"), self.logs.votes)
        self.failure: Violation | None = None
        self._watches: dict[SimLoop, tuple[Watch, Process]] = {}
        self._promised: dict[Member, tuple[int, int]] = {}  # of nodes that do not run
        self._chunks: dict[tuple[Member, Member], tuple[int, int]] = {}
        setting.checker = self
        setting.world.after_each = self._after
        setting.network.on_send = self._sent
        setting.network.on_event = self._happened

    # -- nodes come and go

    def opened(self, process: Process) -> None:
        """A journal was read, and nothing was done yet."""
        raft = process.raft
        assert raft is not None
        core, member = raft.core, process.member
        promised = self._promised.get(member, (0, 0))
        if core.log.last_index < promised[1]:
            raise self.fail(
                Violation(
                    "acknowledged entries stay",
                    f"{member} told the leader of term {promised[0]} that it holds {promised[1]}, "
                    f"and ends at {core.log.last_index} after its restart",
                )
            )
        process.host.bits_flipped = False  # every byte that counts was read, and what was wrong is in use no more
        watch = Watch(self.logs, core)
        watch.promised = promised
        self._watches[process.loop] = (watch, process)

    def forget(self, member: Member) -> None:
        """It is somebody's intention that this member knows nothing of its former life."""
        self._promised.pop(member, None)
        self.durable.forget(member)

    def ended(self, process: Process) -> None:
        """A process is no more."""
        found = self._watches.pop(process.loop, None)
        if found is not None:
            self._promised[process.member] = found[0].promised

    def failed(self, process: Process, error: Exception) -> None:
        """A node stopped by itself. It may over its disk, and over nothing else."""
        self.setting.trace("failed", process.host.node, error)
        if not isinstance(error, OSError):
            self.fail(Violation("a node does not fail", f"{process.member}: {type(error).__name__}: {error}"))

    def refused(self, host: Host, error: Exception) -> None:
        """A journal was called damaged; then somebody must have damaged it."""
        self.setting.trace("refused to start", host.node, error)
        if not host.bits_flipped:
            self.fail(Violation("readable after a power cut", f"{host.member}: {error}"))
        else:
            self.setting.coverage.note("bit flip refused")

    def after_power_cut(self, host: Host) -> None:
        """What is left can be read; and count what that was like."""
        if host.bits_flipped or not host.files.exists(DIRECTORY):
            return
        try:
            stored = self.durable.stored(host)
        except Violation as violation:
            raise self.fail(violation) from None
        if stored.torn_bytes:
            self.setting.coverage.note("torn tail cut")

    def before_power_cut(self, host: Host) -> bool:
        """Count what may be lost; whether there is anything."""
        lost = False
        pending = [host.files.root]
        while pending:
            directory = pending.pop()
            if directory.pending:
                self.setting.coverage.note("new file or rename lost")
                lost = True
            for node in directory.entries.values():
                if isinstance(node, Directory):
                    pending.append(node)
                elif node.unsynced:
                    self.setting.coverage.note("unsynced lost")
                    lost = True
        return lost

    # -- after each step

    def _after(self, loop: SimLoop) -> None:
        found = self._watches.get(loop)
        if found is not None:
            watch, process = found
            watch.look()
            if process.store.failure is not None:
                raise process.store.failure
        if self.failure is not None:
            raise self.failure
        if loop.failures:
            self._unexpected(loop)

    def _unexpected(self, loop: SimLoop) -> None:
        context = loop.failures.pop()
        error = context.get("exception")
        if isinstance(error, Violation):
            raise error
        raise Violation("no exception is lost", f"{loop.name}: {context.get('message')}: {error!r}") from error

    def fail(self, violation: Violation) -> Violation:
        """Within a node's own callback an exception might be handled: so it is kept for `_after`."""
        self.failure = self.failure or violation
        return violation

    # -- messages

    def _sent(self, message: Message) -> None:
        host = self.hosts[message.source.node]
        coverage = self.setting.coverage
        if host.member == message.source and not host.bits_flipped:
            try:
                self.durable.sent(host, message)
            except Violation as violation:
                raise self.fail(violation) from None
        match message:
            case VoteResponse(granted=False, pre=pre):
                coverage.note("pre-vote refused" if pre else "vote refused")
            case VoteRequest(pre=False, transfer=True):
                self.logs.asked_by_leader.add((message.source, message.term))
            case SnapshotChunk(index=index, offset=offset):
                way = (message.source, message.target)
                if self._chunks.get(way) == (index, offset) and offset:
                    coverage.note("snapshot chunk lost")
                self._chunks[way] = (index, offset)
            case AppendResponse(matched=True):
                self._note_promise(host, message)

    def _note_promise(self, host: Host, message: AppendResponse) -> None:
        member, term, index = message.source, message.term, message.index
        acknowledged = self.logs.acknowledged
        acknowledged[member, term] = max(index, acknowledged.get((member, term), 0))
        process = host.process
        if process is not None and process.member == member and (found := self._watches.get(process.loop)) is not None:
            watch = found[0]
            if term > watch.promised[0] or index > watch.promised[1]:
                watch.promised = (term, index)

    def _happened(self, what: str, source: NodeId, target: NodeId, message: Message | None) -> None:
        setting = self.setting
        setting.told.add(setting.world.now_s, f"{source}→{target}", what, message or "")
        if what == "lost":
            setting.coverage.note("message lost")
        elif what == "reset":
            setting.coverage.note("connection reset")
        elif what == "refused":
            setting.coverage.note("connection refused")

    # -- clients

    def acknowledged(self, process: Process, index: int) -> None:
        """A client is being told that its proposal is committed: a majority of the voters must hold it durably."""
        logs = self.logs
        if index not in logs.committed:
            raise self.fail(Violation("acknowledged means committed", f"{process.member} acknowledges {index}"))
        if not self.durable.is_due():
            return
        raft = process.raft
        assert raft is not None
        log = raft.core.log
        term = logs.committed[index][0]
        if log.membership_index > index:
            return  # it was counted among other voters
        voters = log.membership.voters
        holders = [m for m in sorted(voters) if self._holds(m, index, term)]
        if not log.membership.is_quorum(set(holders)):
            names = " ".join(str(member) for member in holders) or "nobody"
            raise self.fail(
                Violation(
                    "acknowledged means durable",
                    f"{process.member} acknowledges {index}:{term}, which only {names} of {len(voters)} holds",
                )
            )

    def _holds(self, member: Member, index: int, term: int) -> bool:
        host = self.hosts[member.node]
        if host.bits_flipped:
            return True  # its journal is not to be read; what it stated before it was damaged, it held
        return host.member == member and self.durable.holds(host, index, term)

    def read(self, node: RaftNode, floor: int, index: int) -> None:
        """A read barrier passed at `index`; `floor` was committed somewhere when it was asked for."""
        if index < floor:
            raise self.fail(
                Violation(
                    "reads are linearizable", f"{node.core.member} reads at {index}, {floor} was committed before"
                )
            )
        self.setting.coverage.note("reads confirmed")
