"""The records of `__consumer_offsets`, as Kafka writes them: a kind and the key, a version and the value."""

from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING

from ottla.coordinators.groups import offset_codec
from ottla.coordinators.groups.consumer.records import KINDS as CONSUMER_GROUP_KINDS
from ottla.coordinators.runtime import CoordinatorRecord
from ottla.core.errors import DecodeError
from ottla.protocol.messages.group_metadata_key import GroupMetadataKey
from ottla.protocol.messages.group_metadata_value import GroupMetadataValue, MemberMetadata
from ottla.protocol.messages.offset_commit_key import OffsetCommitKey

if TYPE_CHECKING:
    from ottla.coordinators.groups.classic_group import ClassicGroup

LEGACY_OFFSET_COMMIT = 0  # the same key as OFFSET_COMMIT, written by very old brokers
OFFSET_COMMIT = OffsetCommitKey.API_KEY
GROUP_METADATA = GroupMetadataKey.API_KEY
GROUP_METADATA_VERSION = 3

_prefix = Struct(">h")
_new_record = tuple.__new__
_OFFSET_KINDS = frozenset(map(_prefix.pack, (OFFSET_COMMIT, LEGACY_OFFSET_COMMIT)))


class GroupRecordCodec:
    """Records of groups as bytes and back. The value of an offset is bytes already, see `offset_codec`."""

    def __init__(self) -> None:
        self._keys = offset_codec.KeyDecoder()

    def encode(self, record: CoordinatorRecord) -> tuple[bytes, bytes | None]:
        """Raises EncodeError when a name is longer than the format can hold."""
        if type(record.key) is OffsetCommitKey:
            place = record.key
            return offset_codec.encode_key(place.group, place.topic, place.partition), record.value
        key = bytearray(_prefix.pack(record.key.API_KEY))
        record.key.encode_into(key, 0)
        if record.value is None:
            return bytes(key), None
        value = bytearray(_prefix.pack(record.value_version))
        record.value.encode_into(value, record.value_version)
        return bytes(key), bytes(value)

    def decode(self, key: bytes, value: bytes | None) -> CoordinatorRecord | None:
        """None for kinds of groups that this version does not know."""
        if key[:2] in _OFFSET_KINDS:
            if value is not None:
                offset_codec.check_value(value)
            return _new_record(CoordinatorRecord, (self._keys.decode(key), value, 0))
        try:
            (kind,) = _prefix.unpack_from(key)
            version = -1 if value is None else _prefix.unpack_from(value)[0]
        except struct_error as error:
            raise DecodeError(f"a record of a group without its version: {error}") from None
        if kind == GROUP_METADATA:
            group_key, _ = GroupMetadataKey.decode(key, 0, 2)
            if value is None:
                return CoordinatorRecord(group_key)
            return CoordinatorRecord(group_key, GroupMetadataValue.decode(value, version, 2)[0], version)
        if kind in CONSUMER_GROUP_KINDS:
            key_class, value_class = CONSUMER_GROUP_KINDS[kind]
            decoded, _ = key_class.decode(key, 0, 2)
            if value is None:
                return CoordinatorRecord(decoded)
            return CoordinatorRecord(decoded, value_class.decode(value, version, 2)[0], version)
        return None


def offset_commit(group_id: str, topic: str, partition: int, stored: bytes) -> CoordinatorRecord:
    """A committed offset, as `offset_codec.encode_value` makes it."""
    return CoordinatorRecord(OffsetCommitKey(group=group_id, topic=topic, partition=partition), stored)


def offset_tombstone(group_id: str, topic: str, partition: int) -> CoordinatorRecord:
    """The end of a committed offset."""
    return CoordinatorRecord(OffsetCommitKey(group=group_id, topic=topic, partition=partition))


def group_tombstone(group_id: str) -> CoordinatorRecord:
    """The end of a group."""
    return CoordinatorRecord(GroupMetadataKey(group=group_id))


def empty_group(group: "ClassicGroup", generation_id: int, now_ms: int) -> CoordinatorRecord:
    """A generation without members."""
    value = GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=generation_id,
        protocol=None,
        leader=None,
        current_state_timestamp=now_ms,
    )
    return CoordinatorRecord(GroupMetadataKey(group=group.group_id), value, GROUP_METADATA_VERSION)


def stable_group(group: "ClassicGroup", assignments: dict[str, bytes], now_ms: int) -> CoordinatorRecord:
    """The group's present generation, with an assignment for each member."""
    value = GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=group.generation_id,
        protocol=group.protocol_name,
        leader=group.leader_id,
        current_state_timestamp=now_ms,
        members=[
            MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.metadata(group.protocol_name),
                assignment=assignments.get(member.member_id, b""),
            )
            for member in group.members.values()
        ],
    )
    return CoordinatorRecord(GroupMetadataKey(group=group.group_id), value, GROUP_METADATA_VERSION)
