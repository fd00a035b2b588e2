"""Byte-exact flows: which topics may be copied so, and whether two logs are one.

A mirror topic holds its source's batches at their offsets, so nothing has to be remembered beside it: the position is
where its log ends, and an offset of one side is that of the other. What must never happen is that two histories are
mixed. Topics are told apart by their ids. Logs of one topic are compared where the copy ends: a source that was cut and
written on (an unclean election) has another batch there.
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple

from ottla.client.mirrors import MirrorTopic
from ottla.core.mirror_topics import PROMOTING, MirrorSource, Promoted
from ottla.core.types import Buffer
from ottla.mirror.core.offset_map import Chunk
from ottla.mirror.core.progress import CopiedPartition, MapId
from ottla.mirror.core.runs import Run
from ottla.records.batch import decode_records
from ottla.records.header import BatchHeader, iterate_headers

_EPOCH: Final = slice(12, 16)  # of a batch: the leader epoch, each cluster's own


class Standing(Enum):
    """What a topic of the source is to an exact flow."""

    MISSING = "missing"  # on the target: to be made
    MIRROR = "mirror"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    RETURNING = "returning"  # it is itself a mirror of the target's topic: the other direction is at work
    REFUSED = "refused"


class Found(NamedTuple):
    """A topic's standing, and what to say of it where it is not copied."""

    standing: Standing
    reason: str = ""

    @property
    def is_copied(self) -> bool:
        """Whether a mirror is to continue the topic."""
        return self.standing is Standing.MIRROR


def judge(source: MirrorSource, original: MirrorTopic, copy: MirrorTopic | None, target_cluster_id: str) -> Found:
    """What becomes of the topic `source`, by what configs say: its own (`original`) and its namesake's (`copy`)."""
    if original.source and MirrorSource.parse(original.source).cluster_id == target_cluster_id:
        return Found(Standing.RETURNING, "it is a mirror of the target's topic")
    if copy is None:
        return Found(Standing.MISSING)
    if copy.source:
        mirrored = MirrorSource.parse(copy.source)
        if mirrored == source:
            if copy.state == PROMOTING:
                return Found(Standing.PROMOTING, "it is being promoted: run `ottla mirror promote` again to finish")
            return Found(Standing.MIRROR)
        if mirrored.cluster_id == source.cluster_id and mirrored.topic == source.topic:
            return Found(
                Standing.REFUSED,
                f"{source.topic} was deleted and made again on the source (id {source.topic_id}, before "
                f"{mirrored.topic_id}): delete it on the target to copy the new one",
            )
        return Found(Standing.REFUSED, f"the target's topic is a mirror of {mirrored.topic} in {mirrored.cluster_id}")
    if came_home(original, copy, target_cluster_id):
        return Found(
            Standing.PROMOTED,
            "the source was promoted in its turn: `ottla mirror reverse` of that flow copies here again",
        )
    if copy.promoted and Promoted.parse(copy.promoted).source == source:
        return Found(Standing.PROMOTED, "it was promoted: `ottla mirror reverse` copies the other way")
    return Found(
        Standing.REFUSED, "the target has a topic of this name that is no mirror: rename or delete one of the two"
    )


def came_home(topic: MirrorTopic, other: MirrorTopic, cluster_id: str) -> bool:
    """Whether the topic was promoted after it had mirrored `other` in that cluster, and after `other` was.

    Of two promotions that refer to each other the later one is that with more in it: what was written after the first
    came back before the second. Where nothing was, either topic may go on.
    """
    if topic.source or not topic.promoted:
        return False
    note = Promoted.parse(topic.promoted)
    earlier = Promoted.parse(other.promoted).end_offsets if other.promoted else ()
    return note.source.cluster_id == cluster_id and (not earlier or sum(note.end_offsets) > sum(earlier))


def identity(map_id: MapId, alias: str, topic: str, end_offset: int) -> CopiedPartition:
    """The copy of a partition up to `end_offset`, with a map in which every offset is itself."""
    copied = CopiedPartition(map_id, alias, topic, topic)
    runs = (Run(0, 0, end_offset),) if end_offset else ()
    copied.map.replay(Chunk(0, end_offset, runs))
    return copied


class Whole(NamedTuple):
    """The whole batches at the beginning of what was fetched."""

    size: int
    base_offset: int
    next_offset: int
    batches: int
    records: int
    last_timestamp_ms: int


def whole_batches(data: Buffer) -> Whole | None:
    """None: not one. DecodeError when it is no record batches."""
    found: Whole | None = None
    for position, header in iterate_headers(data, allow_partial=True):
        before = found or Whole(0, header.base_offset, 0, 0, 0, -1)
        found = Whole(
            position + header.size_bytes,
            before.base_offset,
            header.next_offset,
            before.batches + 1,
            before.records + (0 if header.is_control else header.record_count),
            max(before.last_timestamp_ms, header.max_timestamp),
        )
    return found


class Batch(NamedTuple):
    """One batch with its header."""

    header: BatchHeader
    data: bytes

    @property
    def without_epoch(self) -> bytes:
        """What both sides have in common."""
        return self.data[: _EPOCH.start] + self.data[_EPOCH.stop :]


def batches_of(data: Buffer) -> Iterator[Batch]:
    """The whole ones."""
    for position, header in iterate_headers(data, allow_partial=True):
        yield Batch(header, bytes(memoryview(data)[position : position + header.size_bytes]))


def same_batch(original: Batch, copy: Batch, *, compacted: bool) -> bool:
    """Whether they are one batch: byte for byte, or in what compaction has left of each."""
    if original.without_epoch == copy.without_epoch:
        return True
    one, other = original.header, copy.header
    if not compacted or _identity(one) != _identity(other):
        return False
    records = {record.offset: record for record in decode_records(original.data)}
    return all(
        found is None or found == record
        for record in decode_records(copy.data)
        for found in [records.get(record.offset)]
    )


def _identity(header: BatchHeader) -> tuple[int, ...]:
    """What compaction leaves as it is."""
    return (
        header.base_offset,
        header.last_offset_delta,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
    )


def why_parted(
    original: Iterable[Batch], copy: Iterable[Batch], end_offset: int, *, source_start: int, compacted: bool
) -> str | None:
    """Why a copy that ends at `end_offset` is not the beginning of the source's log; None: it is.

    Both hold what was read at the offset before. Where either side has nothing there any more (compaction, deleted
    records), nothing can be told, and nothing speaks against it. `compacted`: whether the source's log may have gaps.
    Whether one of the two batches was compacted shows in them, whatever either topic is configured to by now.
    """
    last = end_offset - 1
    held = next((one for one in copy if one.header.base_offset <= last <= one.header.last_offset), None)
    if held is None or last < source_start:
        return None
    found = next((one for one in original if one.header.base_offset <= last <= one.header.last_offset), None)
    if found is None:
        if compacted:
            return None
        return f"the source holds no batch at offset {last}, where the copy has its last one: it has lost records"
    if same_batch(found, held, compacted=True):
        return None
    return (
        f"the source holds another batch at offset {last} than the copy: it was cut and written on (an unclean "
        "election), or the copy was written to; nothing is mixed: delete the topic on the target to copy it anew"
    )
