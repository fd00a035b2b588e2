"""Offsets of groups on the target, and MM2's offset syncs."""

import pytest

from ottla.client.coordination import OffsetAndMetadata
from ottla.client.types import TopicPartition
from ottla.mirror.core.groups import Changes, GroupPlan, is_active, plan_group, translate
from ottla.mirror.core.mm2_records import Checkpoint, OffsetSync
from ottla.mirror.core.offset_map import Chunk, OffsetMap
from ottla.mirror.core.offset_syncs import OffsetSyncs
from ottla.mirror.core.runs import Run

SOURCE, COPY = TopicPartition("orders", 0), TopicPartition("a.orders", 0)
OTHER, OTHER_COPY = TopicPartition("users", 1), TopicPartition("a.users", 1)


def map_of(*runs: Run, position: int) -> OffsetMap:
    offsets = OffsetMap()
    offsets.replay(Chunk(0, position, runs))
    return offsets


MAPS = {SOURCE: (COPY, map_of(Run(0, 0, 10), Run(12, 20, 10), position=25)), OTHER: (OTHER_COPY, OffsetMap())}


def plan(
    committed: int, state: str | None = None, on_target: int | None = None, *, may_go_back: bool = False
) -> GroupPlan:
    return plan_group(
        "g",
        {SOURCE: OffsetAndMetadata(committed, "note"), TopicPartition("private", 0): OffsetAndMetadata(5)},
        MAPS.get,
        target_state=state,
        target_offsets={} if on_target is None else {COPY: on_target},
        may_go_back=may_go_back,
    )


@pytest.mark.parametrize(
    ("committed", "upstream", "downstream", "not_copied"),
    [(0, 0, 0, 0), (9, 9, 9, 0), (10, 10, 20, 0), (15, 15, 23, 0), (22, 22, 30, 0), (25, 25, 30, 0), (40, 25, 30, 15)],
)
def test_offsets_are_translated_exactly_and_as_far_as_was_copied(
    committed: int, upstream: int, downstream: int, not_copied: int
) -> None:
    assert translate(MAPS[SOURCE][1], committed) == (upstream, downstream, not_copied)


def test_a_group_that_is_not_on_the_target_is_written_there() -> None:
    for state in (None, "Empty", "Dead", "EMPTY"):
        made = plan(15, state)
        assert made.commits == {COPY: OffsetAndMetadata(23, "note")}
        assert made.checkpoints == [Checkpoint("g", COPY, 15, 23, "note")]
        assert made.left_alone == {}


def test_a_group_that_reads_on_the_target_is_left_alone() -> None:
    for state in ("Stable", "PreparingRebalance", "Assigning", "STABLE"):
        made = plan(15, state)
        assert made.commits == {}
        assert made.left_alone == {COPY: f"the group is active on the target ({state})"}
        assert len(made.checkpoints) == 1  # it is told all the same


def test_a_group_is_never_moved_back_unless_that_is_allowed() -> None:
    assert plan(15, "Empty", 24).commits == {}
    assert plan(15, "Empty", 24).left_alone == {COPY: "the group is further on the target already (24)"}
    assert plan(15, "Empty", 24, may_go_back=True).commits == {COPY: OffsetAndMetadata(23, "note")}
    assert plan(15, "Empty", 22).commits == {COPY: OffsetAndMetadata(23, "note")}


def test_what_is_right_already_is_not_written_again() -> None:
    made = plan(15, "Empty", 23)
    assert (made.commits, made.left_alone) == ({}, {})


def test_a_partition_of_which_nothing_is_copied_has_no_checkpoint() -> None:
    made = plan_group("g", {OTHER: OffsetAndMetadata(5)}, MAPS.get, target_state=None, target_offsets={})
    assert (made.checkpoints, made.commits) == ([], {})
    assert made.left_alone == {OTHER_COPY: "nothing of it is copied yet"}


def test_unknown_groups_are_not_active() -> None:
    assert not is_active(None)
    assert not is_active("Unknown")
    assert is_active("Reconciling")


def test_only_checkpoints_that_say_something_new_are_written() -> None:
    changes = Changes()
    first, second = Checkpoint("g", COPY, 1, 1), Checkpoint("g", COPY, 2, 2)
    assert changes.new_ones([first]) == [first]
    assert changes.new_ones([first]) == [first]  # until it is written
    changes.written([first])
    assert changes.new_ones([first, second]) == [second]


def test_offset_syncs_tell_the_first_copy_each_gap_and_every_so_many_records() -> None:
    syncs = OffsetSyncs(SOURCE, 100)
    assert syncs.after(Run(0, 0, 10)) == OffsetSync(SOURCE, 9, 9)
    assert syncs.after(Run(10, 10, 90)) is None
    assert syncs.after(Run(100, 100, 10)) == OffsetSync(SOURCE, 109, 109)
    assert syncs.after(Run(110, 111, 1)) == OffsetSync(SOURCE, 110, 111)
