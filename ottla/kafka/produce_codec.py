"""Produce on the wire, versions 3 to 13: requests decoded in place, so that batches reach the log without a copy."""

from struct import Struct
from typing import Final

from ottla.broker.leader_hints import CurrentLeader, Hint, no_hint
from ottla.broker.produce import ProducedPartition, ProducedTopics, ProduceRequest
from ottla.broker.replicas import TopicKey
from ottla.core.errors import DecodeError, ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.core.unsigned_varint import read_unsigned_varint
from ottla.kafka.leader_fields import current_leader, node_endpoints
from ottla.kafka.reading import (
    INT32,
    read_compact_count,
    read_compact_string,
    read_count,
    read_string,
    skip_tagged_fields,
)
from ottla.protocol.wire import MALFORMED, bad_length, write_compact_string, write_string, write_unsigned_varint

MIN_VERSION: Final = 3
MAX_VERSION: Final = 13
FIRST_FLEXIBLE: Final = 9
_FIRST_WITH_ZSTD: Final = 7
_FIRST_WITH_MESSAGES: Final = 8
_FIRST_WITH_LOG_START: Final = 5
_FIRST_WITH_LEADERS: Final = 10
_FIRST_WITH_ABORTABLE: Final = 11
_FIRST_THAT_ADDS_PARTITIONS: Final = 12
_FIRST_WITH_IDS: Final = 13
_CURRENT_LEADER_TAG: Final = 0

_ACKS_TIMEOUT: Final = Struct(">hi")
_INDEX_SIZE: Final = Struct(">ii")

Batches = list[tuple[int, memoryview | None]]


def decode_request(frame: bytearray, position: int, version: int) -> ProduceRequest:
    """The request that starts at `position`. Its batches are views of the frame. Raises DecodeError."""
    try:
        if version >= FIRST_FLEXIBLE:
            return _decode_flexible(frame, position, version)
        return _decode_rigid(frame, position, version)
    except (DecodeError, *MALFORMED) as error:
        raise DecodeError(f"ProduceRequest version {version}: {error}") from None


def _decode_rigid(frame: bytearray, position: int, version: int) -> ProduceRequest:
    view = memoryview(frame)
    size = len(frame)
    transactional_id, position = read_string(frame, position)
    acks, timeout_ms = _ACKS_TIMEOUT.unpack_from(frame, position)
    topic_count, position = read_count(frame, position + 6, 6)
    topics: list[tuple[TopicKey, Batches]] = []
    for _ in range(topic_count):
        name, position = read_string(frame, position)
        if name is None:
            raise DecodeError("a topic without a name")
        count, position = read_count(frame, position, 8)
        batches: Batches = []
        for _ in range(count):
            index, length = _INDEX_SIZE.unpack_from(frame, position)
            position += 8
            if length < 0:
                batches.append((index, None))
                continue
            if length > size - position:
                raise bad_length("records", length, position)
            batches.append((index, view[position : position + length]))
            position += length
        topics.append((name, batches))
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topics=topics,
        transactional_id=transactional_id,
        allows_zstd=version >= _FIRST_WITH_ZSTD,
    )


def _decode_flexible(frame: bytearray, position: int, version: int) -> ProduceRequest:
    view = memoryview(frame)
    size = len(frame)
    transactional_id, position = read_compact_string(frame, position)
    acks, timeout_ms = _ACKS_TIMEOUT.unpack_from(frame, position)
    topic_count, position = read_compact_count(frame, position + 6, 3)
    topics: list[tuple[TopicKey, Batches]] = []
    for _ in range(topic_count):
        topic, position = _read_topic(frame, position, version)
        count, position = read_compact_count(frame, position, 6)
        batches: Batches = []
        for _ in range(count):
            (index,) = INT32.unpack_from(frame, position)
            length, position = read_unsigned_varint(frame, position + 4)
            if length == 0:
                batches.append((index, None))
            else:
                length -= 1
                if length > size - position:
                    raise bad_length("records", length, position)
                batches.append((index, view[position : position + length]))
                position += length
            position = skip_tagged_fields(frame, position) if frame[position] else position + 1
        position = skip_tagged_fields(frame, position) if frame[position] else position + 1
        topics.append((topic, batches))
    skip_tagged_fields(frame, position)
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topics=topics,
        transactional_id=transactional_id,
        adds_partitions=version >= _FIRST_THAT_ADDS_PARTITIONS,
        knows_abortable=version >= _FIRST_WITH_ABORTABLE,
    )


def _read_topic(frame: bytearray, position: int, version: int) -> tuple[TopicKey, int]:
    if version >= _FIRST_WITH_IDS:
        end = position + 16
        if end > len(frame):
            raise bad_length("topic id", 16, position)
        return Uuid(bytes(frame[position:end])), end
    name, position = read_compact_string(frame, position)
    if name is None:
        raise DecodeError("a topic without a name")
    return name, position


# index, error code, base offset, log append time[, log start offset[, no record errors, no message, no tags]]
_PARTITION_3: Final = Struct(">ihqq")
_PARTITION_5: Final = Struct(">ihqqq")
_PARTITION_9_FINE: Final = Struct(">ihqqqBBB")


def encode_response(out: bytearray, topics: ProducedTopics, version: int, hint: Hint = no_hint) -> None:
    """Append the body of the response. `hint` is asked who leads a partition which this node does not lead."""
    if version >= FIRST_FLEXIBLE:
        leaders: dict[NodeId, CurrentLeader] | None = None  # made when it is needed
        write_unsigned_varint(out, len(topics) + 1)
        for topic, partitions in topics:
            if isinstance(topic, str):
                write_compact_string(out, topic)
            else:
                out += topic
            write_unsigned_varint(out, len(partitions) + 1)
            for part in partitions:
                if not part.error:
                    fixed = (part.index, part.error, part.base_offset, part.log_append_time_ms, part.log_start_offset)
                    out += _PARTITION_9_FINE.pack(*fixed, 1, 0, 0)
                    continue
                leader = None
                if part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER and version >= _FIRST_WITH_LEADERS:
                    leader = hint(topic, part.index)
                _write_refused(out, part, leader)
                if leader is not None:
                    leaders = {**(leaders or {}), leader.node: leader}
            out.append(0)
        out += b"\0\0\0\0"  # throttle time
        out += node_endpoints(leaders) if leaders else b"\0"
        return
    out += INT32.pack(len(topics))
    for topic, partitions in topics:
        write_string(out, topic if isinstance(topic, str) else None)
        out += INT32.pack(len(partitions))
        for part in partitions:
            if version < _FIRST_WITH_LOG_START:
                out += _PARTITION_3.pack(part.index, part.error, part.base_offset, part.log_append_time_ms)
                continue
            fixed = (part.index, part.error, part.base_offset, part.log_append_time_ms, part.log_start_offset)
            out += _PARTITION_5.pack(*fixed)
            if version >= _FIRST_WITH_MESSAGES:
                out += b"\0\0\0\0"
                write_string(out, part.message)
    out += b"\0\0\0\0"


def _write_refused(out: bytearray, part: ProducedPartition, leader: CurrentLeader | None) -> None:
    """A flexible version's partition that was not appended to; the client may go on with `leader`."""
    out += _PARTITION_5.pack(part.index, part.error, part.base_offset, part.log_append_time_ms, part.log_start_offset)
    out.append(1)
    write_compact_string(out, part.message)
    out += b"\0" if leader is None else current_leader(_CURRENT_LEADER_TAG, leader)
