"""Metadata on the wire: each topic is encoded once for a version, and again only when it changed.

A client asks for all topics every few minutes and whenever something moves; with ten thousand partitions building and
encoding the message would hold up the loop each time. Requests and the frame of responses go by the generated codecs.
"""

from collections.abc import Collection
from struct import Struct
from typing import Final

from ottla.broker.metadata_answer import MetadataAnswer
from ottla.controller.image import NO_LEADER, PartitionImage, TopicImage
from ottla.core.errors import ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.protocol.messages.metadata_response import MetadataResponseTopic
from ottla.protocol.wire import INT16, INT32, write_compact_string, write_string, write_unsigned_varint

_FIRST_WITH_INTERNAL: Final = 1
_FIRST_WITH_OFFLINE: Final = 5
_FIRST_WITH_EPOCH: Final = 7
_FIRST_WITH_OPERATIONS: Final = 8
_FIRST_FLEXIBLE: Final = 9
_FIRST_WITH_ID: Final = 10
_LAST_WITH_CLUSTER_OPERATIONS: Final = 10
_FIRST_WITH_ERROR: Final = 13
_HEAD: Final = Struct(">hii")  # error code, index, leader
_HEAD_WITH_EPOCH: Final = Struct(">hiii")
_SPARE: Final = 64  # how many entries more than topics the cache may have before it is swept


class _Encoded:
    """What was made of one topic."""

    __slots__ = ("by_version", "live_brokers", "topic")

    def __init__(self, topic: TopicImage, live_brokers: frozenset[NodeId]) -> None:
        self.topic = topic
        self.live_brokers = live_brokers
        self.by_version: dict[int, bytes] = {}


class MetadataEncoder:
    """Encodes answers; remembers their topics."""

    def __init__(self) -> None:
        self._cache: dict[str, _Encoded] = {}

    def encode(self, answer: MetadataAnswer, version: int) -> bytes:
        """The body of the response."""
        flexible = version >= _FIRST_FLEXIBLE
        without_topics = answer.response.encode(version)
        after = _bytes_after_topics(version)
        before = len(without_topics) - after - (1 if flexible else 4)
        count = len(answer.topics)
        out = bytearray(without_topics[:before])
        if flexible:
            write_unsigned_varint(out, count + 1)
        else:
            out += INT32.pack(count)
        end = b""
        if version >= _FIRST_WITH_OPERATIONS:
            end += INT32.pack(answer.topic_authorized_operations)
        if flexible:
            end += b"\0"
        pieces: list[bytes | bytearray] = [out]
        for topic in answer.topics:
            if isinstance(topic, TopicImage):
                pieces.append(self._topic(topic, answer.live_brokers, version))
            else:
                pieces.append(_encode_error(topic, version))
            pieces.append(end)
        pieces.append(without_topics[len(without_topics) - after :])
        return b"".join(pieces)

    def forget_all_but(self, names: Collection[str]) -> None:
        """Drop topics that are gone, once there are many of them."""
        if len(self._cache) > len(names) + _SPARE:
            self._cache = {name: encoded for name, encoded in self._cache.items() if name in names}

    def _topic(self, topic: TopicImage, live_brokers: frozenset[NodeId], version: int) -> bytes:
        encoded = self._cache.get(topic.name)
        if encoded is None or encoded.topic is not topic or encoded.live_brokers != live_brokers:
            encoded = self._cache[topic.name] = _Encoded(topic, live_brokers)
        body = encoded.by_version.get(version)
        if body is None:
            body = encoded.by_version[version] = _encode_topic(topic, live_brokers, version)
        return body


def _bytes_after_topics(version: int) -> int:
    operations = 4 if _FIRST_WITH_OPERATIONS <= version <= _LAST_WITH_CLUSTER_OPERATIONS else 0
    error = 2 if version >= _FIRST_WITH_ERROR else 0
    tags = 1 if version >= _FIRST_FLEXIBLE else 0
    return operations + error + tags


def _encode_error(topic: MetadataResponseTopic, version: int) -> bytes:
    return _head(topic.error_code, topic.name, topic.topic_id, topic.is_internal, 0, version)


def _encode_topic(topic: TopicImage, live_brokers: frozenset[NodeId], version: int) -> bytes:
    head = _head(ErrorCode.NONE, topic.name, topic.id, topic.internal, len(topic.partitions), version)
    return head + _partitions(topic.partitions, live_brokers, version)


def _head(error: int, name: str | None, topic_id: Uuid, internal: bool, partitions: int, version: int) -> bytes:
    out = bytearray(INT16.pack(error))
    if version >= _FIRST_FLEXIBLE:
        write_compact_string(out, name)
    else:
        write_string(out, name or "")
    if version >= _FIRST_WITH_ID:
        out += topic_id
    if version >= _FIRST_WITH_INTERNAL:
        out.append(internal)
    if version >= _FIRST_FLEXIBLE:
        write_unsigned_varint(out, partitions + 1)
    else:
        out += INT32.pack(partitions)
    return bytes(out)


def _partitions(partitions: tuple[PartitionImage, ...], live_brokers: frozenset[NodeId], version: int) -> bytes:
    with_epoch = version >= _FIRST_WITH_EPOCH
    pack = (_HEAD_WITH_EPOCH if with_epoch else _HEAD).pack
    nodes: dict[tuple[tuple[NodeId, ...], tuple[NodeId, ...]], bytes] = {}  # most partitions share a few of these
    out = bytearray()
    for partition in partitions:
        key = partition.replicas, partition.isr
        end = nodes.get(key)
        if end is None:
            end = nodes[key] = _nodes(partition, live_brokers, version)
        leader, error = partition.leader, 0
        if leader not in live_brokers:
            leader, error = NO_LEADER, ErrorCode.LEADER_NOT_AVAILABLE
        if with_epoch:
            out += pack(error, partition.index, leader, partition.leader_epoch)
        else:
            out += pack(error, partition.index, leader)
        out += end
    return bytes(out)


def _nodes(partition: PartitionImage, live_brokers: frozenset[NodeId], version: int) -> bytes:
    """Replicas, in-sync replicas, offline replicas, and the end of the partition."""
    lists = [partition.replicas, partition.isr]
    if version >= _FIRST_WITH_OFFLINE:
        lists.append(tuple(replica for replica in partition.replicas if replica not in live_brokers))
    out = bytearray()
    for ids in lists:
        if version >= _FIRST_FLEXIBLE:
            write_unsigned_varint(out, len(ids) + 1)
        else:
            out += INT32.pack(len(ids))
        out += b"".join(map(INT32.pack, ids))
    if version >= _FIRST_FLEXIBLE:
        out.append(0)
    return bytes(out)
