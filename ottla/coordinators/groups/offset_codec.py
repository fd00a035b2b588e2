"""Committed offsets as bytes: the key and the value of their records in `__consumer_offsets`.

Written by hand, because a coordinator writes one for each partition of each commit and loads millions of them. In
memory an offset stays the bytes of its record's value, with the version in front: of all forms it is the smallest, and
the garbage collector, which would stop the loop for a million objects, does not know it.
"""

from struct import Struct
from struct import error as struct_error
from typing import Final

from ottla.core.errors import DecodeError, EncodeError
from ottla.core.types import ZERO_UUID, Uuid
from ottla.protocol.messages.offset_commit_key import OffsetCommitKey
from ottla.protocol.messages.offset_commit_value import OffsetCommitValue

VERSION: Final = 4
VERSION_WITH_EXPIRY: Final = 1  # the only one that has an expiry of its own (requests before version 5)
NO_EXPIRY: Final = -1

_KIND: Final = OffsetCommitKey.API_KEY
_KIND_LENGTH: Final = Struct(">hh")
_LENGTH: Final = Struct(">h")
_PARTITION: Final = Struct(">i")
_NAME_BYTES_MAX: Final = 32_767

_VERSION_4: Final = VERSION.to_bytes(2, "big")
_EMPTY_METADATA: Final = Struct(">hqiBqB")  # version, offset, leader epoch, length of no metadata, time, tags
_METADATA_AT: Final = 14
_TAGS_AT: Final = _EMPTY_METADATA.size - 1
_ONE_TOPIC_ID: Final = b"\x01\x00\x10"  # one tagged field: number 0, of sixteen bytes
_WITH_TOPIC_ID: Final = _EMPTY_METADATA.size + 2 + 16


def encode_key(group_id: str, topic: str, partition: int) -> bytes:
    """The key of an offset's record; EncodeError when a name is too long for it."""
    group_bytes, topic_bytes = group_id.encode(), topic.encode()
    if len(group_bytes) > _NAME_BYTES_MAX or len(topic_bytes) > _NAME_BYTES_MAX:
        raise EncodeError(f"a name of more than {_NAME_BYTES_MAX} bytes in the key of an offset")
    return b"".join(
        (
            _KIND_LENGTH.pack(_KIND, len(group_bytes)),
            group_bytes,
            _LENGTH.pack(len(topic_bytes)),
            topic_bytes,
            _PARTITION.pack(partition),
        )
    )


class KeyDecoder:
    """Reads keys of a log: the partitions of one commit stand side by side, so the names are often those before."""

    __slots__ = ("_group", "_names", "_topic")

    def __init__(self) -> None:
        self._names = b"none"
        """Of the last key, all of it before the partition."""
        self._group = self._topic = ""

    def decode(self, key: bytes) -> OffsetCommitKey:
        """Of either kind of offset key; DecodeError when it is none."""
        names = key[:-4]
        if names != self._names:
            decoded = decode_key(key)
            self._names, self._group, self._topic = names, decoded.group, decoded.topic
            return decoded
        decoded = OffsetCommitKey.__new__(OffsetCommitKey)
        decoded.group, decoded.topic = self._group, self._topic
        (decoded.partition,) = _PARTITION.unpack_from(key, len(names))
        return decoded


def decode_key(key: bytes) -> OffsetCommitKey:
    """Of either kind of offset key; DecodeError when it is none."""
    try:
        topic_at = 4 + (key[2] << 8 | key[3])
        partition_at = topic_at + 2 + (key[topic_at] << 8 | key[topic_at + 1])
        decoded = OffsetCommitKey.__new__(OffsetCommitKey)
        decoded.group = key[4:topic_at].decode()
        decoded.topic = key[topic_at + 2 : partition_at].decode()
        (decoded.partition,) = _PARTITION.unpack(key[partition_at:])  # and nothing behind it
    except (IndexError, struct_error, UnicodeDecodeError) as error:
        raise DecodeError(f"the key of an offset: {error}") from None
    return decoded


def encode_value(
    offset: int, leader_epoch: int, metadata: str, commit_timestamp: int, expire_timestamp: int, topic_id: Uuid
) -> bytes:
    """An offset as it is stored. With an expiry it has none of the leader epoch and topic id."""
    if metadata or expire_timestamp != NO_EXPIRY:
        value = OffsetCommitValue(
            offset=offset,
            leader_epoch=leader_epoch,
            metadata=metadata,
            commit_timestamp=commit_timestamp,
            expire_timestamp=expire_timestamp,
            topic_id=topic_id,
        )
        version = VERSION if expire_timestamp == NO_EXPIRY else VERSION_WITH_EXPIRY
        return version.to_bytes(2, "big") + value.encode(version)
    if topic_id == ZERO_UUID:
        return _EMPTY_METADATA.pack(VERSION, offset, leader_epoch, 1, commit_timestamp, 0)
    return (
        _EMPTY_METADATA.pack(VERSION, offset, leader_epoch, 1, commit_timestamp, _ONE_TOPIC_ID[0])
        + _ONE_TOPIC_ID[1:]
        + topic_id
    )


def decode_value(stored: bytes) -> OffsetCommitValue:
    """The offset; DecodeError when it is none, or one of a later version."""
    if len(stored) < 2:
        raise DecodeError("a record of a group without its version")
    return OffsetCommitValue.decode(stored, int.from_bytes(stored[:2], "big", signed=True), 2)[0]


def check_value(stored: bytes) -> None:
    """Raise DecodeError for what `decode_value` could not read."""
    if len(stored) > _TAGS_AT and stored[:2] == _VERSION_4 and stored[_METADATA_AT] == 1:
        tags = stored[_TAGS_AT]
        if tags == 0 and len(stored) == _TAGS_AT + 1:
            return
        if len(stored) == _WITH_TOPIC_ID and stored[_TAGS_AT : _TAGS_AT + 3] == _ONE_TOPIC_ID:
            return
    decode_value(stored)
