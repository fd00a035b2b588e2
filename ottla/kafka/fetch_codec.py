"""Fetch on the wire, versions 4 to 18: responses are lists of buffers, in which the records stand as they were read."""

from itertools import groupby
from struct import Struct
from typing import Final

from ottla.broker.fetch_messages import NO_PREFERENCE, FetchedPartition, FetchPartition, FetchRequest, FetchResponse
from ottla.broker.leader_hints import CurrentLeader, Hint, no_hint
from ottla.broker.replicas import TopicKey
from ottla.core.errors import DecodeError, ErrorCode
from ottla.core.types import Buffer, NodeId, Uuid
from ottla.kafka.leader_fields import current_leader, node_endpoints
from ottla.kafka.reading import (
    INT32,
    Frame,
    read_compact_count,
    read_compact_string,
    read_count,
    read_string,
    skip_tagged_fields,
)
from ottla.partitions.results import Isolation
from ottla.protocol.wire import MALFORMED, bad_length, write_compact_string, write_string, write_unsigned_varint

MIN_VERSION: Final = 4
MAX_VERSION: Final = 18
FIRST_FLEXIBLE: Final = 12
_FIRST_WITH_LOG_START: Final = 5
_FIRST_WITH_SESSIONS: Final = 7
_FIRST_WITH_EPOCHS: Final = 9
_FIRST_WITH_ZSTD: Final = 10
_FIRST_WITH_RACK: Final = 11
_FIRST_WITH_IDS: Final = 13
_FIRST_WITHOUT_REPLICA_ID: Final = 15
_FIRST_WITH_LEADERS: Final = 16
_CURRENT_LEADER_TAG: Final = 1
_TOLD_OF_LEADERS: Final = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})

_ISOLATIONS: Final = (Isolation.READ_UNCOMMITTED, Isolation.READ_COMMITTED)
_LIMITS: Final = Struct(">iiib")  # max wait, min bytes, max bytes, isolation level
_SESSION: Final = Struct(">ii")
_PARTITION_4: Final = Struct(">iqi")  # index, offset, max bytes
_PARTITION_5: Final = Struct(">iqqi")  # index, offset, log start offset, max bytes
_PARTITION_9: Final = Struct(">iiqqi")  # index, leader epoch, offset, log start offset, max bytes
_PARTITION_12: Final = Struct(">iiqiqi")  # index, leader epoch, offset, last fetched epoch, log start offset, max bytes


def decode_request(frame: Frame, position: int, version: int) -> FetchRequest:
    """The request that starts at `position`. Raises DecodeError."""
    try:
        return _decode(frame, position, version)
    except (DecodeError, *MALFORMED) as error:
        raise DecodeError(f"FetchRequest version {version}: {error}") from None


def _decode(frame: Frame, position: int, version: int) -> FetchRequest:
    if version < _FIRST_WITHOUT_REPLICA_ID:
        position += 4  # replicas do not fetch by this protocol
    max_wait_ms, min_bytes, max_bytes, level = _LIMITS.unpack_from(frame, position)
    position += _LIMITS.size
    session_id, session_epoch = 0, -1
    if version >= _FIRST_WITH_SESSIONS:
        session_id, session_epoch = _SESSION.unpack_from(frame, position)
        position += 8
    if not 0 <= level < len(_ISOLATIONS):
        raise DecodeError(f"isolation level {level} is unknown")
    flexible = version >= FIRST_FLEXIBLE
    partitions, position = _read_topics(frame, position, version)
    forgotten: list[tuple[TopicKey, int]] = []
    if version >= _FIRST_WITH_SESSIONS:
        forgotten, position = _read_forgotten(frame, position, version)
    rack: str | None = None
    if version >= _FIRST_WITH_RACK:
        rack, position = read_compact_string(frame, position) if flexible else read_string(frame, position)
        rack = rack or ""
    if flexible:
        skip_tagged_fields(frame, position)
    return FetchRequest(
        partitions=partitions,
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        isolation=_ISOLATIONS[level],
        session_id=session_id,
        session_epoch=session_epoch,
        forgotten=forgotten,
        allows_zstd=version >= _FIRST_WITH_ZSTD,
        rack=rack,
    )


def _read_topics(frame: Frame, position: int, version: int) -> tuple[list[FetchPartition], int]:
    flexible = version >= FIRST_FLEXIBLE
    reader = read_compact_count if flexible else read_count
    topic_count, position = reader(frame, position, 3 if flexible else 6)
    partitions: list[FetchPartition] = []
    layout = _partition_layout(version)
    for _ in range(topic_count):
        topic, position = _read_topic(frame, position, version)
        count, position = reader(frame, position, layout.size)
        for _ in range(count):
            fields = layout.unpack_from(frame, position)
            position += layout.size
            if version >= _FIRST_WITH_EPOCHS:
                index, leader_epoch, offset = fields[:3]
            else:
                index, offset = fields[:2]
                leader_epoch = -1
            partitions.append(FetchPartition(topic, index, offset, fields[-1], leader_epoch))
            if flexible:
                position = skip_tagged_fields(frame, position) if frame[position] else position + 1
        if flexible:
            position = skip_tagged_fields(frame, position)
    return partitions, position


def _partition_layout(version: int) -> Struct:
    if version >= FIRST_FLEXIBLE:
        return _PARTITION_12
    if version >= _FIRST_WITH_EPOCHS:
        return _PARTITION_9
    return _PARTITION_5 if version >= _FIRST_WITH_LOG_START else _PARTITION_4


def _read_forgotten(frame: Frame, position: int, version: int) -> tuple[list[tuple[TopicKey, int]], int]:
    flexible = version >= FIRST_FLEXIBLE
    reader = read_compact_count if flexible else read_count
    forgotten: list[tuple[TopicKey, int]] = []
    topic_count, position = reader(frame, position, 3 if flexible else 6)
    for _ in range(topic_count):
        topic, position = _read_topic(frame, position, version)
        count, position = reader(frame, position, 4)
        for _ in range(count):
            forgotten.append((topic, INT32.unpack_from(frame, position)[0]))
            position += 4
        if flexible:
            position = skip_tagged_fields(frame, position)
    return forgotten, position


def _read_topic(frame: Frame, position: int, version: int) -> tuple[TopicKey, int]:
    if version >= _FIRST_WITH_IDS:
        end = position + 16
        if end > len(frame):
            raise bad_length("topic id", 16, position)
        return Uuid(bytes(frame[position:end])), end
    reader = read_compact_string if version >= FIRST_FLEXIBLE else read_string
    name, position = reader(frame, position)
    if name is None:
        raise DecodeError("a topic without a name")
    return name, position


_HEAD: Final = Struct(">ihi")  # throttle time, error code, session id
_OFFSETS_4: Final = Struct(">ihqq")  # index, error code, high watermark, last stable offset
_OFFSETS_5: Final = Struct(">ihqqq")  # … and log start offset
_TRANSACTION: Final = Struct(">qq")
_TRANSACTION_FLEXIBLE: Final = Struct(">qqB")
_NO_PREFERRED_REPLICA = INT32.pack(NO_PREFERENCE)


def encode_response(out: bytearray, response: FetchResponse, version: int, hint: Hint = no_hint) -> list[Buffer]:
    """The body of the response behind what `out` holds, in buffers. `hint` is asked who leads a partition which this
    node does not lead.
    """
    leaders: dict[NodeId, CurrentLeader] | None = None  # made when it is needed
    flexible = version >= FIRST_FLEXIBLE
    buffers: list[Buffer] = []
    if version >= _FIRST_WITH_SESSIONS:
        out += _HEAD.pack(0, response.error, response.session_id)
    else:
        out += INT32.pack(0)
    topics = [(topic, list(partitions)) for topic, partitions in groupby(response.partitions, _topic_of)]
    _write_count(out, len(topics), flexible)
    for topic, partitions in topics:
        if not isinstance(topic, str):
            out += topic
        elif flexible:
            write_compact_string(out, topic)
        else:
            write_string(out, topic)
        _write_count(out, len(partitions), flexible)
        for partition in partitions:
            _write_partition(out, partition, version)
            size = partition.size
            if flexible:
                write_unsigned_varint(out, size + 1)
            else:
                out += INT32.pack(size)
            if size:
                buffers.append(bytes(out))
                buffers += partition.buffers
                out.clear()
            if not flexible:
                continue
            if partition.error and partition.error in _TOLD_OF_LEADERS and version >= _FIRST_WITH_LEADERS:
                leader = hint(topic, partition.index)
                if leader is not None:
                    leaders = {**(leaders or {}), leader.node: leader}
                    out += current_leader(_CURRENT_LEADER_TAG, leader)
                    continue
            out.append(0)
        if flexible:
            out.append(0)
    if flexible:
        out += node_endpoints(leaders) if leaders else b"\0"
    if out:
        buffers.append(bytes(out))
    return buffers


def _topic_of(partition: FetchedPartition) -> TopicKey:
    return partition.topic


def _write_count(out: bytearray, count: int, flexible: bool) -> None:
    if flexible:
        write_unsigned_varint(out, count + 1)
    else:
        out += INT32.pack(count)


def _write_partition(out: bytearray, partition: FetchedPartition, version: int) -> None:
    """Everything before the records."""
    offsets = (partition.index, partition.error, partition.high_watermark, partition.last_stable_offset)
    if version >= _FIRST_WITH_LOG_START:
        out += _OFFSETS_5.pack(*offsets, partition.log_start_offset)
    else:
        out += _OFFSETS_4.pack(*offsets)
    aborted = partition.aborted
    if version >= FIRST_FLEXIBLE:
        if aborted is None:
            out.append(0)
        else:
            write_unsigned_varint(out, len(aborted) + 1)
            for producer_id, first_offset in aborted:
                out += _TRANSACTION_FLEXIBLE.pack(producer_id, first_offset, 0)
    elif aborted is None:
        out += b"\xff\xff\xff\xff"
    else:
        out += INT32.pack(len(aborted))
        for producer_id, first_offset in aborted:
            out += _TRANSACTION.pack(producer_id, first_offset)
    if version >= _FIRST_WITH_RACK:
        preferred = partition.preferred_replica
        out += _NO_PREFERRED_REPLICA if preferred == NO_PREFERENCE else INT32.pack(preferred)
