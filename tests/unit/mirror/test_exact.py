"""Byte-exact flows: what is copied so, and whether two logs are one history."""

import pytest

from ottla.client.mirrors import MirrorTopic
from ottla.core.mirror_topics import MirrorSource, Promoted
from ottla.mirror.core.exact import (
    Batch,
    Found,
    Standing,
    batches_of,
    identity,
    judge,
    same_batch,
    whole_batches,
    why_parted,
)
from ottla.mirror.core.partition_task import Fetch, Lost, PartitionTask, SourceLog, State, Stop, TaskPolicy
from ottla.mirror.core.progress import MapId
from ottla.records.batch import Record, encode_batch
from ottla.records.filtering import filter_batch
from ottla.records.header import patch_base_offset

SOURCE = MirrorSource("cluster-a", "topic-id", "orders")
NOTHING = MirrorTopic("", "copying", "")


def mirror_of(source: str, state: str = "copying") -> MirrorTopic:
    return MirrorTopic(source, state, "")


@pytest.mark.parametrize(
    ("original", "copy", "standing", "said"),
    [
        (NOTHING, None, Standing.MISSING, ""),
        (NOTHING, mirror_of(str(SOURCE)), Standing.MIRROR, ""),
        (mirror_of("cluster-c/other/orders"), mirror_of(str(SOURCE)), Standing.MIRROR, ""),  # a chain of clusters
        (NOTHING, mirror_of(str(SOURCE), "promoting"), Standing.PROMOTING, "run `ottla mirror promote` again"),
        (NOTHING, MirrorTopic("", "copying", f"{SOURCE}@3,4"), Standing.PROMOTED, "`ottla mirror reverse`"),
        (
            MirrorTopic("", "copying", "cluster-b/it/orders@9"),
            MirrorTopic("", "copying", f"{SOURCE}@3"),
            Standing.PROMOTED,
            "promoted in its turn",
        ),
        (mirror_of("cluster-b/it/orders"), NOTHING, Standing.RETURNING, "a mirror of the target's topic"),
        (NOTHING, NOTHING, Standing.REFUSED, "a topic of this name that is no mirror"),
        (NOTHING, mirror_of("cluster-a/older/orders"), Standing.REFUSED, "deleted and made again on the source"),
        (NOTHING, mirror_of("cluster-c/older/orders"), Standing.REFUSED, "a mirror of orders in cluster-c"),
        (NOTHING, MirrorTopic("", "copying", "cluster-a/older/orders@3"), Standing.REFUSED, "no mirror"),
    ],
)
def test_what_a_topic_is_to_an_exact_flow(
    original: MirrorTopic, copy: MirrorTopic | None, standing: Standing, said: str
) -> None:
    found = judge(SOURCE, original, copy, "cluster-b")
    assert found.standing is standing
    assert said in found.reason
    assert found.is_copied is (standing is Standing.MIRROR)
    assert isinstance(found, Found)


def test_what_the_configs_say_can_be_read_back() -> None:
    assert MirrorSource.parse(str(SOURCE)) == SOURCE
    assert Promoted.parse(f"{SOURCE}@0,17") == Promoted(SOURCE, (0, 17))
    for wrong in ("", "a/b", "a/b/c/d", "a/b/c@1", "a/b/ü"):
        with pytest.raises(ValueError, match="write <cluster id>"):
            MirrorSource.parse(wrong)
    for wrong in ("a/b/c", "a/b/c@", "a/b/c@1,", "a/b/c@-1"):
        with pytest.raises(ValueError, match="write <cluster id>"):
            Promoted.parse(wrong)


def batch(offset: int, *values: bytes, epoch: int = 1, timestamp: int = 7) -> Batch:
    records = [Record(timestamp=timestamp, key=value[:1], value=value) for value in values]
    data = bytearray(encode_batch(records))
    patch_base_offset(data, 0, offset, epoch)
    [found] = batches_of(data)
    return found


def test_whole_batches_are_told_from_one_that_is_cut_off() -> None:
    first, second = batch(3, b"a", b"b"), batch(9, b"c", timestamp=8)
    data = first.data + second.data
    whole = whole_batches(data)
    assert whole is not None
    assert (whole.size, whole.base_offset, whole.next_offset, whole.batches) == (len(data), 3, 10, 2)
    assert (whole.records, whole.last_timestamp_ms) == (3, 8)
    cut = whole_batches(data[:-1])
    assert cut is not None
    assert (cut.size, cut.next_offset) == (len(first.data), 5)
    assert whole_batches(data[:50]) is None


def test_batches_are_the_same_whatever_their_leader_epoch() -> None:
    assert same_batch(batch(3, b"a", epoch=1), batch(3, b"a", epoch=9), compacted=False)
    assert not same_batch(batch(3, b"a"), batch(4, b"a"), compacted=False)
    assert not same_batch(batch(3, b"a"), batch(3, b"b"), compacted=True)


FULL = batch(3, b"a1", b"b1", b"c1")


def left(*offsets: int) -> Batch:
    """What compaction leaves of it."""
    kept = filter_batch(
        FULL.data, keep=lambda entry: entry.offset in offsets, new_delete_horizon_ms=99, retain_empty=True
    )
    assert kept is not None
    [found] = batches_of(bytes(kept))
    return found


def test_compaction_on_either_side_is_no_difference_in_what_both_still_hold() -> None:
    full = FULL
    assert same_batch(full, left(3, 5), compacted=True)
    assert same_batch(left(3), left(4), compacted=True)
    assert not same_batch(full, left(3, 5), compacted=False)
    assert not same_batch(batch(3, b"a2", b"b1", b"c1"), left(3, 5), compacted=True)


def test_a_source_that_was_cut_and_written_on_is_told_by_the_last_batch_of_the_copy() -> None:
    ours, theirs = [batch(8, b"a", b"b", epoch=4)], [batch(8, b"a", b"b", epoch=2)]
    assert why_parted(theirs, ours, 10, source_start=0, compacted=False) is None
    written_on = [batch(8, b"x", b"y")]
    assert "cut and written on" in (why_parted(written_on, ours, 10, source_start=0, compacted=False) or "")
    assert "holds no batch" in (why_parted([], ours, 10, source_start=0, compacted=False) or "")
    assert why_parted([], ours, 10, source_start=0, compacted=True) is None
    assert why_parted(written_on, ours, 10, source_start=10, compacted=False) is None  # it has nothing there any more
    assert why_parted(written_on, [], 10, source_start=0, compacted=True) is None


@pytest.mark.parametrize(("original", "copy"), [(FULL, left(3, 5)), (FULL, left()), (left(4), FULL)])
def test_a_last_batch_that_was_compacted_once_is_the_same_whatever_the_source_says_now(
    original: Batch, copy: Batch
) -> None:
    """The copy alone may have been: by its own configs, or before the source's changed."""
    assert why_parted([original], [copy], 6, source_start=0, compacted=False) is None
    another = batch(3, b"a2", b"b2", b"c2")
    assert "another batch" in (why_parted([another], [left(3, 5)], 6, source_start=0, compacted=False) or "")
    longer = batch(3, b"a1", b"b1", b"c1", b"d1")
    assert "another batch" in (why_parted([longer], [copy], 6, source_start=0, compacted=False) or "")


def test_every_offset_of_an_exact_copy_is_itself() -> None:
    copy = identity(MapId("a", "t", "t2", 0), "a", "orders", 40).map
    assert [copy.to_target(offset) for offset in (0, 17, 40, 41)] == [0, 17, 40, None]
    assert [copy.to_source(offset) for offset in (0, 17, 40)] == [0, 17, 40]
    empty = identity(MapId("a", "t", "t2", 0), "a", "orders", 0).map
    assert (empty.position, empty.to_target(0)) == (0, 0)


def test_a_task_begins_where_the_copy_ends() -> None:
    def begun(position: int, start: int, end: int, *, is_empty: bool = False) -> tuple[PartitionTask, list[object]]:
        task = PartitionTask(MapId("a", "t", "t2", 0), TaskPolicy())
        return task, list(task.resume_at(position, SourceLog(start, end), is_empty=is_empty))

    assert begun(5, 0, 9)[1] == [Fetch(5)]
    assert begun(0, 7, 9, is_empty=True)[1] == [Fetch(7)]  # where the source begins: nothing is lost
    assert begun(5, 7, 9)[1] == [Lost(5, 7), Fetch(7)]
    task, effects = begun(10, 0, 9)
    assert task.state is State.STOPPED
    assert isinstance(effects[0], Stop)
    task, _ = begun(5, 0, 9)
    task.refused("another history")
    assert (task.state, task.last_error) == (State.STOPPED, "another history")
