"""Metadata on the wire: each topic is encoded once for a version, and again only when it changed.

A client asks for all topics every few minutes and whenever something moves; with ten thousand partitions building and
encoding the message would hold up the loop each time. Requests and the frame of responses go by the generated codecs.
"""

from collections.abc import Collection, Iterator
from functools import cache
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
    return head + b"".join(_partitions(topic.partitions, live_brokers, version))


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


def _partitions(
    partitions: tuple[PartitionImage, ...], live_brokers: frozenset[NodeId], version: int
) -> Iterator[bytes]:
    plus = 1 if version >= _FIRST_FLEXIBLE else 0  # compact arrays carry their length plus one
    tail = (0,) if version >= _FIRST_FLEXIBLE else ()
    with_offline = version >= _FIRST_WITH_OFFLINE
    with_epoch = version >= _FIRST_WITH_EPOCH
    offline: list[NodeId] = []
    for partition in partitions:
        leader, replicas, isr = partition.leader, partition.replicas, partition.isr
        error = 0
        if leader not in live_brokers:
            leader = NO_LEADER
            error = ErrorCode.LEADER_NOT_AVAILABLE
        if not live_brokers.issuperset(replicas):
            offline = [replica for replica in replicas if replica not in live_brokers]
        elif offline:
            offline = []
        epoch = (partition.leader_epoch,) if with_epoch else ()
        dead = (len(offline) + plus, *offline) if with_offline else ()
        yield _layout(version, len(replicas), len(isr), len(offline)).pack(
            error, partition.index, leader, *epoch, len(replicas) + plus, *replicas, len(isr) + plus, *isr, *dead, *tail
        )


@cache
def _layout(version: int, replicas: int, isr: int, offline: int) -> Struct:
    length = "B" if version >= _FIRST_FLEXIBLE else "i"  # nobody has 127 replicas
    text = ">hii"
    if version >= _FIRST_WITH_EPOCH:
        text += "i"
    text += f"{length}{replicas}i{length}{isr}i"
    if version >= _FIRST_WITH_OFFLINE:
        text += f"{length}{offline}i"
    if version >= _FIRST_FLEXIBLE:
        text += "B"
    return Struct(text)
