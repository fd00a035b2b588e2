"""pysyncobj as a `System`: its classes unchanged, on our clock, network and disk.

Its seams: `autoTick=False`, the `transport` argument, and three names of the module `syncobj`, which are replaced while
a run lasts: the clock, the random generator, and the function that opens the journal.
"""

import gc
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pysyncobj.syncobj
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.journal import Journal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from tests.sim.pysyncobj.disk import SimDisk
from tests.sim.pysyncobj.scenario import MEMBERS, Done, Peer, Run
from tests.sim.pysyncobj.state import State

SECONDS_PER_GLANCE = 50e-6
"""Each look at the clock takes that long: some of its loops end by time only."""


@dataclass
class Files:
    """What the package's file journal keeps: records, and a small file with term, vote and commit index."""

    entries: list[tuple[bytes, int, int]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> "Files":
        return Files(list(self.entries), dict(self.meta))


class SimNode(Node):  # type: ignore[misc]  # the package has no types
    """Its hash is the same in every process, and so is the order of sets."""

    def __hash__(self) -> int:
        return MEMBERS.index(self.id)


class SimJournal(Journal):  # type: ignore[misc]
    """Writes what the package's `FileJournal` writes, in the same order, and syncs as much: nothing.

    A kill falls between two writes. The commit index is written once a second, or along with a term.
    """

    def __init__(self, disk: SimDisk[Files]) -> None:
        self._disk = disk
        self._entries = list(disk.content.entries)
        self._meta = dict(disk.content.meta)
        self._meta_saved = True

    def add(self, command: bytes, idx: int, term: int) -> None:
        entry = (command, idx, term)
        self._entries.append(entry)
        self._disk.write(lambda files: files.entries.append(entry))

    def clear(self) -> None:
        self._entries = []
        self._disk.write(lambda files: files.entries.clear())

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N803
        del self._entries[entryFrom:]
        self._disk.write(lambda files: files.entries.__delitem__(slice(entryFrom, None)))

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N803
        """As the original does: everything is gone until the rest is written again, entry by entry."""
        rest = self._entries[entryTo:]
        self.clear()
        for entry in rest:
            self.add(*entry)

    def __getitem__(self, item: Any) -> Any:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N803
        self._meta["commit"] = raftCommitIndex
        self._meta_saved = False

    def getRaftCommitIndex(self) -> int:
        return int(self._meta.get("commit", 1))

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N803
        self._meta |= {"term": term, "vote": votedForNodeId}
        self._write_meta()

    def getCurrentTerm(self) -> int:
        return int(self._meta.get("term", 0))

    def getVotedForNodeId(self) -> str | None:
        return self._meta.get("vote")

    def onOneSecondTimer(self) -> None:
        if not self._meta_saved:
            self._write_meta()

    def _write_meta(self) -> None:
        self._meta_saved, meta = True, dict(self._meta)
        self._disk.write(lambda files: files.__setattr__("meta", meta))


class SimTransport(Transport):  # type: ignore[misc]
    """One member's end of the network. Messages are pickled, as in the original."""

    def __init__(self, run: Run, name: str) -> None:
        super().__init__(None, None, [])
        self._run, self._name = run, name

    def send(self, node: Node, message: object) -> bool:
        if self._run.disks[self._name].killed:
            return False
        return self._run.network.send(self._name, node.id, pickle.dumps(message))


class Replica(SyncObj):  # type: ignore[misc]
    """What users of the package write. Attributes that are set after its constructor are replicated state."""

    def __init__(self, run: Run, name: str, configuration: SyncObjConf, transport: Transport) -> None:
        self._watch: Callable[[int, bytes], None] = lambda position, command: run.invariants.applied(
            name, position, command
        )
        others = [SimNode(other) for other in MEMBERS if other != name]
        super().__init__(SimNode(name), others, configuration, transport=transport)
        self.state = State()

    @replicated  # type: ignore[untyped-decorator]
    def execute(self, command: bytes) -> bytes:
        self._watch(len(self.state.applied), command)
        return self.state.execute(command)


class PackagePeer:
    """The process of one member."""

    def __init__(self, run: Run, name: str, configuration: SyncObjConf) -> None:
        self._run, self._name = run, name
        self._transport = SimTransport(run, name)
        self._replica = Replica(run, name, configuration, self._transport)
        self._nodes = {node.id: node for node in self._replica.otherNodes}
        self._state = self._replica.state

    @property
    def leads(self) -> bool:
        return bool(self._replica._isLeader())

    @property
    def term(self) -> int:
        return int(self._replica.raftCurrentTerm)

    @property
    def commit(self) -> int:
        return int(self._replica.raftCommitIndex)

    @property
    def applied(self) -> list[bytes]:
        return self._state.applied

    def tick(self) -> None:
        self._guarded(self._replica.doTick)

    def connection(self, other: str, up: bool) -> None:
        transport = self._transport
        self._guarded(transport._onNodeConnected if up else transport._onNodeDisconnected, self._nodes[other])

    def receive(self, source: str, message: bytes) -> None:
        self._guarded(self._transport._onMessageReceived, self._nodes[source], pickle.loads(message))

    def submit(self, command: bytes, done: Done) -> None:
        def answered(result: bytes | None, reason: int) -> None:
            done(result if reason == FAIL_REASON.SUCCESS else None)

        self._guarded(lambda: self._replica.execute(command, callback=answered))

    def _guarded(self, call: Callable[..., object], *arguments: object) -> None:
        """Its own thread logs whatever a tick raises, and goes on with the next."""
        try:
            call(*arguments)
        except Exception:
            logging.getLogger(__name__).debug("a tick failed", exc_info=True)
        if self._replica.state is not self._state:
            self._state = self._replica.state
            self._run.invariants.restored(self._name, self._state.applied)


class Package:
    """The `System`."""

    def __init__(self) -> None:
        self._directory = Path()

    @contextmanager
    def around(self, run: Run) -> Iterator[None]:
        glances = 0

        def now() -> float:
            nonlocal glances
            glances += 1
            return run.clock.monotonic_ms() / 1000 + glances * SECONDS_PER_GLANCE

        log = logging.getLogger("pysyncobj")
        level = log.level
        log.setLevel(logging.CRITICAL + 1)
        module = pysyncobj.syncobj
        with (
            TemporaryDirectory() as directory,
            warnings.catch_warnings(),
            patch.object(module, "monotonicTime", now),
            patch.object(module, "random", run.random),
            patch.object(module, "createJournal", SimJournal),
        ):
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves files open
            self._directory = Path(directory)
            yield
            run.forget_everything()
            gc.collect()  # now, while their warnings are ignored
        log.setLevel(level)

    def disk_content(self) -> Files:
        return Files()

    def start(self, name: str, run: Run) -> Peer:
        configuration = SyncObjConf(
            autoTick=False,
            journalFile=run.disks[name],
            fullDumpFile=str(self._directory / name),
            useFork=False,
            logCompactionMinEntries=20,
            logCompactionMinTime=3600,
            logCompactionBatchSize=1024,
        )
        return PackagePeer(run, name, configuration)
