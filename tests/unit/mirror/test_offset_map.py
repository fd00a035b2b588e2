"""The offset map against a list of all records, which is the plainest reference."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.mirror.core.offset_map import Chunk, OffsetMap
from ottla.mirror.core.runs import CHUNK_RUNS, Run, decode_runs, encode_runs, join

# Gaps before a run on both sides, its records, and its path.
gaps_and_lengths = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4), st.integers(0, 2))
transactions = st.lists(st.tuples(st.lists(gaps_and_lengths, max_size=30), st.integers(0, 3)), max_size=8)


class Reference:
    """Every record as a pair of offsets, and the position in the source; answers for every offset, one by one."""

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int, int]] = []  # source, target, path
        self.position = 0

    def to_target(self) -> list[int]:
        """By source offset, up to the position."""
        end = self.pairs[-1][1] + 1 if self.pairs else 0
        return self._next({source: target for source, target, _ in self.pairs}, self.position + 1, end)

    def to_source(self) -> list[int]:
        """By target offset, up to three after the last copy."""
        count = (self.pairs[-1][1] if self.pairs else 0) + 4
        return self._next({target: source for source, target, _ in self.pairs}, count, self.position)

    @staticmethod
    def _next(known: dict[int, int], count: int, after: int) -> list[int]:
        answers = []
        for offset in reversed(range(count)):
            after = known.get(offset, after)
            answers.append(after)
        return answers[::-1]


def build(history: list[tuple[list[tuple[int, int, int, int]], int]]) -> tuple[OffsetMap, Reference, list[Chunk]]:
    """The map and the reference after these transactions, and all chunks that were written."""
    offsets, reference, written = OffsetMap(), Reference(), []
    source = target = 0
    for parts, skipped in history:
        runs = []
        for source_gap, target_gap, length, path in parts:
            source, target = source + source_gap, target + target_gap
            runs.append(Run(source, target, length, path))
            reference.pairs += [(source + n, target + n, path) for n in range(length)]
            source, target = source + length, target + length
        source += skipped
        reference.position = source
        chunks = offsets.plan(runs, source)
        for chunk in chunks:
            offsets.replay(chunk)
        written += chunks
    return offsets, reference, written


def check(offsets: OffsetMap, reference: Reference) -> None:
    to_target, to_source = reference.to_target(), reference.to_source()
    paths = {target: path for _, target, path in reference.pairs}
    assert [offsets.to_target(offset) for offset in range(len(to_target))] == to_target
    assert offsets.to_target(len(to_target)) is None
    assert [offsets.to_source(offset) for offset in range(len(to_source))] == to_source
    for offset in range(len(to_source)):
        run = offsets.copy_at(offset)
        assert (None if run is None else run.path) == paths.get(offset)


@settings(max_examples=40)
@given(transactions.filter(bool))
def test_every_offset_is_translated_as_the_reference_says(
    history: list[tuple[list[tuple[int, int, int, int]], int]],
) -> None:
    offsets, reference, _ = build(history)
    check(offsets, reference)


@settings(max_examples=40)
@given(transactions.filter(bool))
def test_what_is_read_back_after_compaction_is_the_same_map(
    history: list[tuple[list[tuple[int, int, int, int]], int]],
) -> None:
    _, reference, written = build(history)
    compacted = {chunk.number: chunk for chunk in written}  # the last of each number, as compaction leaves it
    read = OffsetMap()
    for chunk in compacted.values():
        read.replay(chunk)
    check(read, reference)


@given(st.lists(gaps_and_lengths, max_size=30))
def test_runs_are_read_back_as_they_were_written(parts: list[tuple[int, int, int, int]]) -> None:
    runs, source, target = [], 5, 1 << 40
    for source_gap, target_gap, length, path in parts:
        runs.append(Run(source + source_gap, target + target_gap, length, path))
        source, target = runs[-1].source_end, runs[-1].target_end
    assert decode_runs(b"x" + encode_runs(runs) + b"rest", 1) == (runs, 1 + len(encode_runs(runs)))


def test_runs_without_a_gap_are_one() -> None:
    assert join([Run(0, 0, 5)], [Run(5, 5, 5), Run(10, 11, 5), Run(15, 16, 1, 1)]) == [
        Run(0, 0, 10),
        Run(10, 11, 5),
        Run(15, 16, 1, 1),
    ]


def test_markers_of_the_target_cost_four_bytes_a_transaction() -> None:
    offsets = OffsetMap()
    for number in range(10_000):
        for chunk in offsets.plan([Run(number * 100, number * 101, 100)], number * 100 + 100):
            offsets.replay(chunk)
    assert offsets.to_target(999_999) == 9_999 * 101 + 99
    assert offsets.size_bytes < 65_000


def test_a_full_chunk_is_left_and_the_next_begins() -> None:
    offsets = OffsetMap()
    gappy = [Run(number * 2, number * 3, 1) for number in range(CHUNK_RUNS + 1)]
    chunks = offsets.plan(gappy, 1000)
    assert [(chunk.number, len(chunk.runs), chunk.position) for chunk in chunks] == [
        (0, CHUNK_RUNS, CHUNK_RUNS * 2 - 1),
        (1, 1, 1000),
    ]
    assert offsets.position is None  # a plan changes nothing


def test_a_map_that_goes_back_is_refused() -> None:
    offsets = OffsetMap()
    offsets.replay(Chunk(0, 20, (Run(10, 5, 10),)))
    for runs, position in (([Run(19, 20, 1)], 30), ([Run(20, 14, 1)], 30), ([], 19), ([Run(20, 20, 5)], 24)):
        with pytest.raises(ValueError, match=r"does not follow|decided already"):
            offsets.plan(runs, position)
    with pytest.raises(ValueError, match="chunk 2 after chunk 0"):
        offsets.replay(Chunk(2, 30, ()))


def test_before_the_first_copy_comes_the_first_copy() -> None:
    offsets = OffsetMap()
    assert offsets.to_target(0) is None
    assert offsets.to_source(0) is None
    offsets.replay(Chunk(0, 110, (Run(100, 7, 10),)))
    assert (offsets.to_target(0), offsets.to_source(0)) == (7, 100)


def test_chunks_before_the_log_start_of_both_sides_are_forgotten() -> None:
    offsets = OffsetMap()
    for number in range(3):
        offsets.replay(Chunk(number, number * 100 + 50, (Run(number * 100, number * 1000, 50),)))
    assert offsets.trim(50, 49) == []
    assert offsets.trim(150, 1050) == [0, 1]
    assert offsets.trim(10_000, 10_000) == [0, 1]  # never the last, which has the position
    offsets.forget(1)  # not the oldest: it is kept until its turn
    offsets.forget(0)
    assert offsets.to_target(0) == 1000
    offsets.forget(1)
    assert (offsets.to_target(0), offsets.to_source(0)) == (2000, 200)
    assert [run.source for run in offsets.runs()] == [200]
