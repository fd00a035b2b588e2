"""The quorum of one: a journal in which an entry is committed when it is on stable storage.

    proposals wait ──▶ one frame is written and synced ──▶ applied in order, proposers answered

While a write is under way further proposals gather, and the next write takes all of them. When what follows the
snapshot has outgrown it, the state goes into a new file that replaces the old one by renaming.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Self

import structlog

from ottla.core.errors import StorageError
from ottla.core.ports import Disk, File
from ottla.core.types import NodeId
from ottla.raft.quorum import Committed, Entry, LogObserver, Snapshot, StateMachine
from ottla.raft.single_voter_journal import JournalContent, decode, encode_entries, encode_start

logger = structlog.get_logger(__name__)

JOURNAL_FILE: Final = "journal"
NEW_FILE: Final = "journal.new"
COMPACT_AFTER_BYTES: Final = 4 << 20
_MAX_FRAME_BYTES: Final = 8 << 20

Proposal = tuple[bytes, "asyncio.Future[Committed]"]


class SingleVoterLog:
    """Implements `Quorum` for a cluster of one voter. Used on one loop; only `open` blocks."""

    def __init__(
        self, disk: Disk, directory: str, node_id: NodeId, machine: StateMachine, *, compact_after_bytes: int
    ) -> None:
        self._disk, self._directory, self._node_id, self._machine = disk, directory, node_id, machine
        self._compact_after_bytes = compact_after_bytes
        self._file: File | None = None
        self._end = self._start_end = 0
        self._term = self._commit_index = self._last_term = 0
        self._snapshot: Snapshot | None = None
        self._entries: list[Entry] = []  # after the snapshot, for observers
        self._waiting: deque[Proposal] = deque()
        self._writing = False
        self._failure: Exception | None = None
        self._closed: asyncio.Future[None] | None = None
        self._observers: list[LogObserver] = []
        self.on_failure: Callable[[Exception], None] = lambda error: None  # the node must not go on as the controller

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        node_id: NodeId,
        machine: StateMachine,
        *,
        compact_after_bytes: int = COMPACT_AFTER_BYTES,
    ) -> Self:
        """Read the journal and replay it into `machine`, in a new term. Blocks: at start.

        Raises CorruptLog when a part is damaged that may have been acknowledged.
        """
        log = cls(disk, directory, node_id, machine, compact_after_bytes=compact_after_bytes)
        log._recover()
        machine.leadership_changed(node_id, log._term)
        return log

    @property
    def is_leader(self) -> bool:
        """True unless the journal failed: there is nobody else to lead."""
        return self._failure is None and self._closed is None

    @property
    def leader(self) -> NodeId | None:
        """The node itself, as there is no other."""
        return self._node_id if self.is_leader else None

    @property
    def term(self) -> int:
        """One more at every start."""
        return self._term

    @property
    def commit_index(self) -> int:
        """The index of the last entry that is committed and applied."""
        return self._commit_index

    def propose(self, data: bytes) -> Awaitable[Committed]:
        """See `Quorum`."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        if not self.is_leader:
            future.set_exception(self._unusable())
            return future
        self._waiting.append((data, future))
        if not self._writing:
            self._write()
        return future

    def read_barrier(self) -> Awaitable[int]:
        """See `Quorum`: what is committed here is applied at once, so nothing is to be waited for."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.is_leader:
            future.set_result(self._commit_index)
        else:
            future.set_exception(self._unusable())
        return future

    def observe(self, observer: LogObserver, after_index: int) -> Callable[[], None]:
        """See `Quorum`."""
        if self._snapshot is not None and after_index < self._snapshot.index:
            observer.observe(self._snapshot)
            after_index = self._snapshot.index
        for entry in self._entries:
            if entry.index > after_index:
                observer.observe(entry)
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    async def close(self) -> None:
        """Finish what is proposed, then refuse more."""
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
            if not self._writing:
                self._finish_closing()
        await self._closed

    # Opening

    @property
    def _path(self) -> str:
        return f"{self._directory}/{JOURNAL_FILE}"

    def _recover(self) -> None:
        files = self._disk.files
        files.make_directory(self._directory)
        new = f"{self._directory}/{NEW_FILE}"
        if files.exists(new):
            files.remove(new)  # a compaction that did not get to its renaming
        if not files.exists(self._path):
            self._replace_file(encode_start(None))
            parent = self._directory.rpartition("/")[0]
            files.sync_directory(parent)
        content = decode(files.read_bytes(self._path), self._path)
        self._file = file = files.open(self._path)
        if content.torn_bytes:
            file.truncate(content.valid_end)
            logger.warning("cut a torn tail off the metadata log", path=self._path, bytes=content.torn_bytes)
        self._term = content.last_term + 1
        self._end, self._start_end = content.valid_end, content.snapshot_end
        self._snapshot = content.snapshot
        # Written before anything is applied: it makes the new term durable, and with the sync all that was read.
        index = content.entries[-1].index if content.entries else content.snapshot.index if content.snapshot else 0
        frame = encode_entries(self._term, index + 1, (), self._end)
        file.pwritev([frame], self._end)
        file.sync()
        self._end += len(frame)
        self._replay(content)

    def _replay(self, content: JournalContent) -> None:
        if content.snapshot is not None:
            self._machine.restore(content.snapshot)
            self._commit_index, self._last_term = content.snapshot.index, content.snapshot.term
        for entry in content.entries:
            self._apply(entry)

    def _replace_file(self, content: bytes) -> None:
        """Give the journal this content, whole or not at all."""
        files = self._disk.files
        new = f"{self._directory}/{NEW_FILE}"
        file = files.open(new, create=True)
        try:
            file.truncate(0)
            file.pwritev([content], 0)
            file.sync()
        finally:
            file.close()
        files.rename(new, self._path)
        files.sync_directory(self._directory)

    # Writing

    def _write(self) -> None:
        batch: list[Proposal] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0][0]) <= _MAX_FRAME_BYTES):
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0])
        first = self._commit_index + 1
        frame = encode_entries(self._term, first, [data for data, _ in batch], self._end)
        file, position = self._file, self._end
        assert file is not None
        self._writing = True
        self._disk.submit(
            lambda: file.pwritev([frame], position, sync=True),
            lambda _, error: self._written(batch, len(frame), error),
        )

    def _written(self, batch: list[Proposal], size: int, error: Exception | None) -> None:
        self._writing = False
        if error is not None:
            self._fail(error, batch)
            return
        self._end += size
        first = self._commit_index + 1
        for number, (data, future) in enumerate(batch):
            entry = Entry(first + number, self._term, data)
            try:
                result = self._apply(entry)
            except Exception as problem:  # the log goes on; the proposer learns what its entry did
                logger.exception("a committed entry could not be applied", index=entry.index)
                if not future.done():
                    future.set_exception(problem)
                continue
            if not future.done():  # whoever proposed may have been cancelled
                future.set_result(Committed(entry.index, result))
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self._write()
        elif self._closed is not None:
            self._finish_closing()
        elif self._end - self._start_end > max(self._compact_after_bytes, 2 * self._start_end):
            self._compact()

    def _apply(self, entry: Entry) -> object:
        self._commit_index, self._last_term = entry.index, entry.term
        self._entries.append(entry)
        try:
            return self._machine.apply(entry)
        finally:
            for observer in tuple(self._observers):
                observer.observe(entry)

    def _fail(self, error: Exception, batch: list[Proposal]) -> None:
        """The journal's end is unknown from here on: nothing is written again before the next start."""
        self._failure = error
        logger.error("the metadata log cannot be written; this node no longer decides", error=str(error))
        for _, future in [*batch, *self._waiting]:
            if not future.done():
                future.set_exception(self._unusable())
        self._waiting.clear()
        if self._closed is not None:
            self._finish_closing()
        self._machine.leadership_changed(None, self._term)
        self.on_failure(error)

    def _unusable(self) -> StorageError:
        if self._failure is None:
            return StorageError(f"{self._path} is closed")
        return StorageError(f"{self._path} could not be written ({self._failure}); repair the disk and start again")

    def _finish_closing(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    # Compaction

    def _compact(self) -> None:
        encode = self._machine.snapshot()
        index, term = self._commit_index, self._last_term
        self._writing = True

        def job() -> tuple[Snapshot, int, File]:
            snapshot = Snapshot(index, term, encode())
            # The present term may have no entry yet, so it is written down beside the snapshot.
            start = encode_start(snapshot)
            self._replace_file(start + encode_entries(self._term, index + 1, (), len(start)))
            return snapshot, len(start), self._disk.files.open(self._path)

        self._disk.submit(job, self._compacted)

    def _compacted(self, outcome: tuple[Snapshot, int, File] | None, error: Exception | None) -> None:
        self._writing = False
        if outcome is None:
            # Perhaps the new file has the name already and perhaps not: which one a write would go to is unknown.
            self._fail(error or StorageError("compaction ended without a result"), [])
            return
        if self._file is not None:
            self._file.close()
        self._snapshot, self._start_end, self._file = outcome
        self._end = self._file.size()
        self._entries = [entry for entry in self._entries if entry.index > self._snapshot.index]
        self._go_on()
