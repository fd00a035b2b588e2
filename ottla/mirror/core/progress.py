"""The progress topic: what a mirror has copied into a cluster, written into that cluster in the data's transactions.

One topic a cluster, `PROGRESS_TOPIC`, compacted, for all mirrors that copy into it. A record is one chunk of one
partition's offset map: the last of them also tells where copying goes on. The last chunk is written anew with each
transaction, so compaction leaves one record for each `CHUNK_RUNS` runs. Read with `read_committed`, its records and
the copies become visible together, except that their two partitions get the commit marker one after the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from zlib import crc32

from ottla.core.errors import DecodeError
from ottla.mirror.core.numbers import read_number, read_text, write_number, write_text
from ottla.mirror.core.offset_map import Chunk, OffsetMap
from ottla.mirror.core.provenance import Path, Paths
from ottla.mirror.core.runs import decode_runs, encode_runs

PROGRESS_TOPIC: Final = "ottla-mirror-progress.internal"
"""Ends as internal topics do, so that no mirror copies it."""

PROGRESS_CONFIGS: Final = {"cleanup.policy": "compact"}

_CHUNK_KIND: Final = 0
_VERSION: Final = 0


class MapId(NamedTuple):
    """Whose map it is. A topic that is deleted and created again has another id, and so another map."""

    source_cluster_id: str
    source_topic_id: str  # Kafka's text form
    target_topic_id: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRecord:
    """One chunk of one map."""

    map_id: MapId
    chunk: Chunk
    source_alias: str
    source_topic: str
    target_topic: str
    paths: tuple[Path, ...] = ()  # those that the runs name by 1, 2, …; see `Paths`

    def encode(self) -> tuple[bytes, bytes]:
        """Key and value."""
        data = bytearray()
        write_number(data, _VERSION)
        write_number(data, self.chunk.position)
        for text in (self.source_alias, self.source_topic, self.target_topic):
            write_text(data, text)
        write_number(data, len(self.paths))
        for path in self.paths:
            write_number(data, len(path))
            for cluster_id in path:
                write_text(data, cluster_id)
        data += encode_runs(self.chunk.runs)
        return encode_key(self.map_id, self.chunk.number), bytes(data)


def encode_key(map_id: MapId, number: int) -> bytes:
    """The key of a chunk; with no value it is the chunk's tombstone."""
    data = bytearray()
    write_number(data, _CHUNK_KIND)
    for text in (map_id.source_cluster_id, map_id.source_topic_id, map_id.target_topic_id):
        write_text(data, text)
    write_number(data, map_id.partition)
    write_number(data, number)
    return bytes(data)


def decode_key(key: bytes) -> tuple[MapId, int] | None:
    """The map and the chunk's number; None for a record of another kind, which is to be left alone."""
    kind, position = read_number(key, 0)
    if kind != _CHUNK_KIND:
        return None
    cluster_id, position = read_text(key, position)
    source_topic_id, position = read_text(key, position)
    target_topic_id, position = read_text(key, position)
    partition, position = read_number(key, position)
    number, position = read_number(key, position)
    return MapId(cluster_id, source_topic_id, target_topic_id, partition), number


def decode_record(map_id: MapId, number: int, value: bytes) -> ProgressRecord:
    """The record of this key; DecodeError when it is malformed, or of a version that is not known here."""
    version, position = read_number(value, 0)
    if version != _VERSION:
        raise DecodeError(
            f"{PROGRESS_TOPIC} holds a record of version {version}: a newer mirror wrote it, use that one"
        )
    next_offset, position = read_number(value, position)
    alias, position = read_text(value, position)
    source_topic, position = read_text(value, position)
    target_topic, position = read_text(value, position)
    count, position = read_number(value, position)
    paths = []
    for _ in range(count):
        length, position = read_number(value, position)
        path = []
        for _ in range(length):
            cluster_id, position = read_text(value, position)
            path.append(cluster_id)
        paths.append(tuple(path))
    runs, position = decode_runs(value, position)
    if position != len(value) or any(run.path > count for run in runs):
        raise DecodeError(f"a malformed record in {PROGRESS_TOPIC}")
    return ProgressRecord(
        map_id=map_id,
        chunk=Chunk(number, next_offset, tuple(runs)),
        source_alias=alias,
        source_topic=source_topic,
        target_topic=target_topic,
        paths=tuple(paths),
    )


def progress_partition(map_id: MapId, partition_count: int) -> int:
    """The partition of the progress topic that holds this map: all of its records lie in one."""
    cluster_id, source_topic_id, target_topic_id, partition = map_id
    return crc32(f"{cluster_id} {source_topic_id} {target_topic_id} {partition}".encode()) % partition_count


@dataclass(slots=True)
class CopiedPartition:
    """What is known of one partition's copy."""

    map_id: MapId
    source_alias: str
    source_topic: str
    target_topic: str
    map: OffsetMap = field(default_factory=OffsetMap)
    paths: Paths = field(default_factory=Paths)

    def records(self, chunks: list[Chunk]) -> list[ProgressRecord]:
        """What to write into the progress topic for these chunks."""
        return [
            ProgressRecord(
                map_id=self.map_id,
                chunk=chunk,
                source_alias=self.source_alias,
                source_topic=self.source_topic,
                target_topic=self.target_topic,
                paths=self.paths.others(),
            )
            for chunk in chunks
        ]

    def replay(self, record: ProgressRecord) -> None:
        """Take over what is committed, in place of paths that only a transaction which failed has named."""
        self.paths = Paths(record.paths)
        self.map.replay(record.chunk)


class Ledger:
    """All that the progress topic of one cluster says: built by replaying it, record by record."""

    def __init__(self) -> None:
        self._copies: dict[MapId, CopiedPartition] = {}
        self._by_target: dict[tuple[str, int], list[CopiedPartition]] = {}

    def replay(self, key: bytes, value: bytes | None) -> None:
        """One committed record, in the order of its partition. DecodeError or ValueError when it is malformed.

        What is known is passed over: who commits a record replays it at once, and meets it again when reading.
        """
        decoded = decode_key(key)
        if decoded is None:
            return
        map_id, number = decoded
        if value is None:
            if map_id in self._copies:
                self._copies[map_id].map.forget(number)
            return
        record = decode_record(map_id, number, value)
        copy = self._copies.get(map_id)
        if copy is None:
            copy = CopiedPartition(map_id, record.source_alias, record.source_topic, record.target_topic)
            self._copies[map_id] = copy
            self._by_target.setdefault((map_id.target_topic_id, map_id.partition), []).append(copy)
        if not copy.map.knows(record.chunk):
            copy.replay(record)

    def get(self, map_id: MapId) -> CopiedPartition | None:
        """The copy of one partition."""
        return self._copies.get(map_id)

    def path_at(self, topic_id: str, partition: int, offset: int) -> Path | None:
        """Through which clusters the record at this offset came; None: no mirror wrote it."""
        for copy in self._by_target.get((topic_id, partition), ()):
            run = copy.map.copy_at(offset)
            if run is not None:
                return (*copy.paths[run.path], copy.map_id.source_cluster_id)
        return None

    def __iter__(self) -> Iterator[CopiedPartition]:
        return iter(self._copies.values())
