"""The records of MirrorMaker 2's own topics, byte for byte: heartbeats, checkpoints, offset syncs.

Written so, Java's RemoteClusterUtils and the tools made for MM2 read what this mirror writes, and it reads theirs. The
forms are those of connect-mirror's classes of the same names (KIP-382): big-endian numbers, texts with their length in
two bytes; heartbeats and checkpoints have a version in front of the value, offset syncs have none.
"""

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Final, NamedTuple, Self

from ottla.client.types import TopicPartition
from ottla.core.errors import DecodeError

VERSION: Final = 0

_INT16 = Struct(">h")
_INT32 = Struct(">i")
_INT64 = Struct(">q")
_TWO_OFFSETS = Struct(">qq")
_VERSION_AND_TIME = Struct(">hq")
_VERSION_AND_OFFSETS = Struct(">hqq")


class Heartbeat(NamedTuple):
    """In `heartbeats` of the cluster `target_alias`: the mirror from `source_alias` was alive."""

    source_alias: str
    target_alias: str
    timestamp_ms: int

    def encode(self) -> tuple[bytes, bytes]:
        """Key and value."""
        return _text(self.source_alias) + _text(self.target_alias), _VERSION_AND_TIME.pack(VERSION, self.timestamp_ms)

    @classmethod
    def decode(cls, key: bytes, value: bytes) -> Self:
        """The reverse; DecodeError for other bytes or another version."""
        source, position = _read_text(key, 0)
        target, _ = _read_text(key, position)
        version, timestamp_ms = _unpack(_VERSION_AND_TIME, value, 0)
        _check(version)
        return cls(source, target, timestamp_ms)


class Checkpoint(NamedTuple):
    """In `<source alias>.checkpoints.internal` of the target: a group's offset on both sides.

    `partition` is that of the copy, under its name on the target.
    """

    group_id: str
    partition: TopicPartition
    upstream_offset: int
    downstream_offset: int
    metadata: str = ""

    def encode(self) -> tuple[bytes, bytes]:
        """Key and value."""
        key = _text(self.group_id) + _text(self.partition.topic) + _INT32.pack(self.partition.partition)
        offsets = _VERSION_AND_OFFSETS.pack(VERSION, self.upstream_offset, self.downstream_offset)
        return key, offsets + _text(self.metadata)

    @classmethod
    def decode(cls, key: bytes, value: bytes) -> Self:
        """The reverse; DecodeError for other bytes or another version."""
        group_id, position = _read_text(key, 0)
        topic, position = _read_text(key, position)
        (partition,) = _unpack(_INT32, key, position)
        version, upstream, downstream = _unpack(_VERSION_AND_OFFSETS, value, 0)
        _check(version)
        metadata, _ = _read_text(value, _VERSION_AND_OFFSETS.size)
        return cls(group_id, TopicPartition(topic, partition), upstream, downstream, metadata)


class OffsetSync(NamedTuple):
    """In `mm2-offset-syncs.<alias>.internal`: the record at `upstream_offset` was copied to `downstream_offset`.

    `partition` is that of the original, under its name in the source.
    """

    partition: TopicPartition
    upstream_offset: int
    downstream_offset: int

    def encode(self) -> tuple[bytes, bytes]:
        """Key and value."""
        key = _text(self.partition.topic) + _INT32.pack(self.partition.partition)
        return key, _TWO_OFFSETS.pack(self.upstream_offset, self.downstream_offset)

    @classmethod
    def decode(cls, key: bytes, value: bytes) -> Self:
        """The reverse; DecodeError for other bytes."""
        topic, position = _read_text(key, 0)
        (partition,) = _unpack(_INT32, key, position)
        upstream, downstream = _unpack(_TWO_OFFSETS, value, 0)
        return cls(TopicPartition(topic, partition), upstream, downstream)


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 0x7FFF:
        raise ValueError(f"a text of {len(encoded)} bytes; 32767 is the most")
    return _INT16.pack(len(encoded)) + encoded


def _read_text(data: bytes, position: int) -> tuple[str, int]:
    (length,) = _unpack(_INT16, data, position)
    start = position + _INT16.size
    end = start + length
    if length < 0 or end > len(data):
        raise DecodeError(f"a text of {length} bytes in {len(data) - start}")
    try:
        return data[start:end].decode(), end
    except UnicodeDecodeError as error:
        raise DecodeError(f"a text that is no UTF-8: {error}") from None


def _unpack(struct: Struct, data: bytes, position: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(data, position)
    except StructError:
        raise DecodeError(f"{len(data) - position} bytes are left where {struct.size} are needed") from None


def _check(version: int) -> None:
    if version != VERSION:
        raise DecodeError(f"a record of version {version}; {VERSION} is known")
