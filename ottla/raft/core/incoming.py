"""A snapshot that arrives in chunks: nothing of it counts before all of it is there, whole."""

from zlib import crc32

from ottla.raft.core.entries import Snapshot
from ottla.raft.core.messages import SnapshotChunk


class IncomingSnapshot:
    """Collects the chunks of one snapshot; a lost or damaged chunk is asked for again by the offset that is awaited."""

    __slots__ = ("_data", "_of")

    def __init__(self) -> None:
        self._of: tuple[int, int, int, int] | None = None
        self._data = bytearray()

    def add(self, chunk: SnapshotChunk) -> tuple[int, Snapshot | None]:
        """The offset that is awaited next, and the snapshot when this was its last chunk."""
        of = (chunk.index, chunk.index_term, chunk.size, chunk.checksum)
        if self._of != of:
            self._of, self._data = of, bytearray()
        if chunk.offset == len(self._data) and crc32(chunk.data) == chunk.data_checksum:
            self._data += chunk.data
        if len(self._data) < chunk.size:
            return len(self._data), None
        whole = bytes(self._data)
        self.forget()
        if len(whole) != chunk.size or crc32(whole) != chunk.checksum:
            return 0, None  # start over
        return chunk.size, Snapshot(chunk.index, chunk.index_term, chunk.membership, whole)

    def forget(self) -> None:
        self._of, self._data = None, bytearray()
