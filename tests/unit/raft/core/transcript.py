"""Plays a transcript: members of the core, driven by commands that read like a story.

members 1 2 3            these, all voters, with empty logs
campaign 1               do not wait for the time-out
tick 1 11                that many ticks for member 1
deliver                  all messages, and those that follow from them, until there are none
deliver 1->2             those that wait for that way, in order
settle                   like deliver, without telling the messages
drop 1->2                they never arrive
cut 1                    from now on nothing goes to or from member 1 (`heal` ends all cuts)
propose 1 hello          (also `propose 1 a b c`)
read 1 balance           asks for a read barrier
compact 1                replace what is applied by a snapshot
slow 2                   its journal syncs only at `persist 2`
crash 3, restart 3       what was not persisted is gone
add 1 4, remove 1 3      the leader changes the membership
transfer 1 2             and its leadership
logs                     what each member's log holds, and to where it is committed
"""

from collections import deque
from collections.abc import Callable

from ottla.core.errors import OttlaError
from ottla.core.types import NodeId
from ottla.raft.core import Config, EntryKind, HardState, Membership, Raft, Ready, Snapshot
from ottla.raft.core.messages import Message
from tests.unit.raft.core.cluster import Journal, member
from tests.unit.raft.core.prose import log_in_words, message_in_words, role_in_words


class Patience:
    """In place of chance: member 1 has the least patience."""

    def __init__(self, number: int) -> None:
        self._number = number

    def random(self) -> float:
        return 0.0

    def randrange(self, start: int, stop: int, /) -> int:
        return min(start + self._number - 1, stop - 1)

    def randbytes(self, n: int, /) -> bytes:
        return bytes(n)


class Actor:
    """A member with its journal and state machine."""

    def __init__(
        self,
        number: int,
        voters: list[int],
        *,
        max_append_bytes: int,
        tell: Callable[[str], None],
        send: Callable[[Message], None],
    ) -> None:
        self.number, self._tell, self._send = number, tell, send
        self._config = Config(member=member(number), chunk_bytes=8, kept_entries=0, max_append_bytes=max_append_bytes)
        membership = Membership(frozenset(member(voter) for voter in voters))
        self.journal = Journal(HardState(0, None), Snapshot(0, 0, membership, b""))
        self.slow = False
        self.start()

    def start(self) -> None:
        journal = self.journal
        patience = Patience(self.number)
        self.raft = Raft(self._config, patience, journal.hard_state, journal.snapshot, list(journal.entries))
        self.state = journal.snapshot.data.decode()
        self.alive = True
        self._unsynced: list[Ready] = []
        self._role = role_in_words(self.raft)

    def crash(self) -> None:
        self.alive = False

    def pump(self) -> None:
        while (ready := self.raft.ready()) is not None:
            self._tell_role()
            for message in ready.messages:
                self._send(message)
            if ready.snapshot is not None:
                self.state = ready.snapshot.data.decode()
                self._tell(f"{self.number} takes over the snapshot to {ready.snapshot.index}: {self.state!r}")
            for entry in ready.committed:
                if entry.kind is EntryKind.DATA:
                    self.state += f"{entry.data.decode()};"
                self._tell(f"{self.number} applies {log_in_words([entry])}")
            for read in ready.reads:
                self._tell(f"{self.number} may read {read.context} once {read.index} is applied")
            self._unsynced.append(ready)
            if not self.slow:
                self.persist()
        self._tell_role()

    def persist(self) -> None:
        unsynced, self._unsynced = self._unsynced, []
        for ready in unsynced:
            self.journal.persist(ready)
            for message in ready.messages_after_sync:
                self._send(message)
            self.raft.persisted(ready.number)

    def compact(self) -> None:
        self.journal.snapshot = snapshot = self.raft.compact(self.raft.log.applied, self.state.encode())
        self.journal.entries = [entry for entry in self.journal.entries if entry.index > snapshot.index]

    def _tell_role(self) -> None:
        if (role := role_in_words(self.raft)) != self._role:
            self._role = role
            self._tell(f"{self.number} {role}")


class Stage:
    """Carries out commands; what happens is returned as lines."""

    def __init__(self) -> None:
        self.actors: dict[int, Actor] = {}
        self._wire: deque[Message] = deque()
        self._cut: set[int] = set()
        self._voters: list[int] = []
        self._max_append_bytes = 1 << 20
        self._told: list[str] = []

    def command(self, line: str) -> list[str]:
        self._told = []
        name, *arguments = line.split()
        try:
            getattr(self, f"_do_{name}")(*arguments)
        except OttlaError as error:
            self._told.append(f"refused: {error}")
        for actor in self.actors.values():
            if actor.alive:
                actor.pump()
        return self._told

    def _do_members(self, *numbers: str) -> None:
        self._voters = [int(number) for number in numbers]
        for number in self._voters:
            self._join(number)

    def _join(self, number: int) -> None:
        self.actors[number] = Actor(
            number,
            self._voters,
            max_append_bytes=self._max_append_bytes,
            tell=lambda line: self._told.append(line),
            send=self._send,
        )

    def _do_short_requests(self) -> None:
        self._max_append_bytes = 1

    def _do_campaign(self, number: str) -> None:
        self._raft(number).campaign()

    def _do_tick(self, number: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self._raft(number).tick()
            self.actors[int(number)].pump()

    def _do_propose(self, number: str, *words: str) -> None:
        for word in words:
            index, term = self._raft(number).propose(word.encode())
            self._told.append(f"{word} will be {index}/{term}")

    def _do_read(self, number: str, name: str) -> None:
        self._raft(number).read(name)

    def _do_compact(self, number: str) -> None:
        self.actors[int(number)].compact()

    def _do_slow(self, number: str) -> None:
        self.actors[int(number)].slow = True

    def _do_persist(self, number: str) -> None:
        self.actors[int(number)].persist()

    def _do_crash(self, number: str) -> None:
        self.actors[int(number)].crash()

    def _do_restart(self, number: str) -> None:
        self.actors[int(number)].start()

    def _do_cut(self, *numbers: str) -> None:
        self._cut |= {int(number) for number in numbers}

    def _do_heal(self) -> None:
        self._cut.clear()

    def _do_add(self, leader: str, number: str) -> None:
        self._raft(leader).add_voter(member(int(number)))
        self._join(int(number))

    def _do_remove(self, leader: str, number: str) -> None:
        self._raft(leader).remove(member(int(number)))

    def _do_transfer(self, leader: str, number: str) -> None:
        self._raft(leader).transfer_leadership(member(int(number)))

    def _do_logs(self) -> None:
        for number, actor in self.actors.items():
            log = actor.raft.log
            snapshot = (
                f"[to {log.snapshot.index}: {actor.journal.snapshot.data.decode()}] " if log.snapshot.index else ""
            )
            self._told.append(f"{number}: {snapshot}{log_in_words(log.entries)}; committed to {log.commit}")

    def _do_deliver(self, way: str | None = None) -> None:
        self._deliver(way, told=True)

    def _do_settle(self) -> None:
        self._deliver(None, told=False)

    def _do_drop(self, way: str) -> None:
        self._wire = deque(message for message in self._wire if not self._goes(message, way))

    def _deliver(self, way: str | None, *, told: bool) -> None:
        if way is not None:  # only what waits already
            chosen = [message for message in self._wire if self._goes(message, way)]
            self._do_drop(way)
            for message in chosen:
                self._arrive(message, told=told)
            return
        for _ in range(10_000):
            for actor in self.actors.values():
                if actor.alive:
                    actor.pump()
            if not self._wire:
                return
            self._arrive(self._wire.popleft(), told=told)
        raise AssertionError("messages never end")

    def _arrive(self, message: Message, *, told: bool) -> None:
        actor = self.actors.get(int(message.target.node))
        if actor is not None and actor.alive:
            if told:
                self._told.append(message_in_words(message))
            actor.raft.step(message)
            actor.pump()

    def _send(self, message: Message) -> None:
        if not {int(message.source.node), int(message.target.node)} & self._cut:
            self._wire.append(message)

    @staticmethod
    def _goes(message: Message, way: str) -> bool:
        source, target = way.split("->")
        return (message.source.node, message.target.node) == (NodeId(int(source)), NodeId(int(target)))

    def _raft(self, number: str) -> Raft:
        return self.actors[int(number)].raft


def play(text: str) -> str:
    """The transcript with what really happened behind its commands. Lines that begin with # are left as they are."""
    stage = Stage()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            lines.append(line)
            lines += [f"    {told}" for told in stage.command(line[2:])]
        elif not line.startswith("    "):
            lines.append(line)
    return "\n".join(lines) + "\n"
