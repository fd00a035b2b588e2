"""Offsets of groups on the target, and MM2's offset syncs."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.client.coordination import OffsetAndMetadata
from ottla.client.types import TopicPartition
from ottla.mirror.core.groups import Changes, Copy, GroupPlan, is_active, plan_group, translate, translate_back
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


MAPS = {
    SOURCE: Copy(COPY, map_of(Run(0, 0, 10), Run(12, 20, 10), position=25)),
    OTHER: Copy(OTHER_COPY, OffsetMap()),
}


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
    assert translate(MAPS[SOURCE], committed) == (upstream, downstream, not_copied)


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


class Pair:
    """One partition under one name in two clusters, with a flow each way; None stands for a marker."""

    def __init__(self) -> None:
        self.logs: tuple[list[int | None], list[int | None]] = ([], [])
        self.maps = (OffsetMap(), OffsetMap())  # from the first, from the second
        self._copies: tuple[set[int], set[int]] = (set(), set())  # offsets in each log
        self._next = 0

    def produce(self, side: int) -> None:
        self.logs[side].append(self._next)
        self._next += 1

    def copy(self, side: int, at_most: int = 1000) -> None:
        """A transaction of the flow that leads away from `side`."""
        log, other, offsets = self.logs[side], self.logs[1 - side], self.maps[side]
        position = offsets.position or 0
        runs = []
        end = min(len(log), position + at_most)
        for offset in range(position, end):
            number = log[offset]
            if number is not None and offset not in self._copies[side]:
                runs.append(Run(offset, len(other), 1))
                self._copies[1 - side].add(len(other))
                other.append(number)
        if runs:
            other.append(None)
        for chunk in offsets.plan(runs, end):
            offsets.replay(chunk)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=40), st.randoms(use_true_random=False))
def test_with_flows_both_ways_a_group_that_moves_misses_nothing(steps: list[tuple[int, int]], random: Random) -> None:
    pair = Pair()
    for side in (0, 1):
        pair.copy(side)
    for kind, count in steps:
        if kind < 2:
            pair.produce(kind)
        else:
            pair.copy(kind - 2, count)
    here, there = Copy(COPY, pair.maps[0], pair.maps[1]), pair.logs[1]
    for committed in (random.randint(0, len(pair.logs[0])), len(pair.logs[0])):
        translated = translate(here, committed)
        assert translated is not None
        read = set(pair.logs[0][:committed])
        assert not set(there[: translated.downstream_offset]) - read - {None}
    for committed in (random.randint(0, len(there)), len(there)):
        back = translate_back(here, committed)
        assert back is not None
        assert not set(pair.logs[0][:back]) - set(there[:committed]) - {None}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=40))
def test_and_gets_nothing_again_when_all_is_copied_and_read(steps: list[tuple[int, int]]) -> None:
    pair = Pair()
    for kind, count in steps:
        if kind < 2:
            pair.produce(kind)
        else:
            pair.copy(kind - 2, count)
    for side in (0, 1, 0, 1):  # the second time only over what the first has brought
        pair.copy(side)
    translated = translate(Copy(COPY, pair.maps[0], pair.maps[1]), len(pair.logs[0]))
    assert translated is not None
    assert set(pair.logs[1][translated.downstream_offset :]) <= {None}
    back = translate_back(Copy(COPY, pair.maps[0], pair.maps[1]), len(pair.logs[1]))
    assert back is not None
    assert set(pair.logs[0][back:]) <= {None}


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
