"""The exact map between the offsets of a source partition and those of its copy.

It grows by replay alone: `plan` says which chunks of runs a transaction has to write beside its data, and `replay`
takes them over once they are committed, or read back from the progress topic (`progress`). Translation is defined for
every offset on either side, in gaps too: **the position of the next record at or after it**. So a consumer that goes on
at the translated offset reads the records that it would have read, no more and no less.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ottla.mirror.core.runs import CHUNK_RUNS, Run, decode_runs, encode_runs, join

_SOURCE, _TARGET = 0, 1  # places in a Run
_CHUNK_BYTES = 33 + 8 + 8 + 8  # of a closed chunk: the object, its place in the list, two offsets
_OPEN_RUN_BYTES = 200


class Chunk(NamedTuple):
    """Consecutive runs of a map: what one record of the progress topic holds.

    Chunks are numbered from 0. `position` is the source offset from which on nothing is decided yet: all before it
    is copied, or was left out on purpose. Only the last chunk may have no runs.
    """

    number: int
    position: int
    runs: tuple[Run, ...]


class OffsetMap:
    """All runs of one partition. Closed chunks are kept as bytes (4 to 5 a run), the last one as it is."""

    def __init__(self) -> None:
        self._first_number = 0
        self._closed: list[bytes] = []
        self._starts = (array("q"), array("q"))  # each closed chunk's first source and first target offset
        self._last: Chunk | None = None
        self._decoded: tuple[int, list[Run]] = (-1, [])  # the closed chunk that was looked into last

    @property
    def position(self) -> int | None:
        """Where copying goes on in the source; None: it has not begun."""
        return None if self._last is None else self._last.position

    @property
    def target_end(self) -> int:
        """The target offset after the last copy; 0 when there is none."""
        run = self._last_run()
        return 0 if run is None else run.target_end

    def plan(self, runs: Iterable[Run], position: int) -> list[Chunk]:
        """The chunks to write when these runs follow, and the source is decided up to `position`.

        ValueError when a run goes back on either side, or `position` does not lie behind all of them.
        """
        number, decided, held = self._last or Chunk(0, 0, ())
        end = self._last_run()
        end_source, end_target = (0, 0) if end is None else (end.source_end, end.target_end)
        added = []
        for run in runs:
            if run.length <= 0 or run.source < end_source or run.target < end_target:
                raise ValueError(f"{run} does not follow source offset {end_source} and target offset {end_target}")
            end_source, end_target = run.source_end, run.target_end
            added.append(run)
        if position < end_source or position < decided:
            raise ValueError(f"position {position} lies before what is decided already")
        joined = join(held, added)
        pieces = [tuple(joined[start : start + CHUNK_RUNS]) for start in range(0, len(joined), CHUNK_RUNS)] or [()]
        positions = [piece[-1].source_end for piece in pieces[:-1]] + [position]
        return [Chunk(number + index, *both) for index, both in enumerate(zip(positions, pieces, strict=True))]

    def replay(self, chunk: Chunk) -> None:
        """Take over a chunk: the last one anew, or the one after it. ValueError for any other."""
        last = self._last
        if last is None:
            self._first_number = chunk.number
        elif chunk.number == last.number + 1 and last.runs:
            self._closed.append(encode_runs(last.runs))
            for side, starts in enumerate(self._starts):
                starts.append(last.runs[0][side])
        elif chunk.number != last.number:
            raise ValueError(f"chunk {chunk.number} after chunk {last.number} of {len(last.runs)} runs")
        self._last = chunk

    def knows(self, chunk: Chunk) -> bool:
        """Whether this chunk, or a later state of it, was taken over already."""
        last = self._last
        return last is not None and (chunk.number, chunk.position) <= (last.number, last.position)

    def forget(self, number: int) -> None:
        """Drop the oldest chunk, if this is its number: `trim` decided it when its tombstone was written."""
        if self._closed and number == self._first_number:
            self._drop(1)

    def trim(self, source_start: int, target_start: int) -> list[int]:
        """The closed chunks that lie before the log start on both sides: their numbers, to write tombstones for."""
        count = 0
        while count < len(self._closed):
            end = self._runs_of(count)[-1]
            if end.source_end > source_start or end.target_end > target_start:
                break
            count += 1
        return list(range(self._first_number, self._first_number + count))

    def to_target(self, source_offset: int) -> int | None:
        """Where a consumer that is to read `source_offset` next goes on in the target.

        None when copying has not come so far yet: no answer could be exact.
        """
        if self._last is None or source_offset > self._last.position:
            return None
        copy = self.next_copy(source_offset)
        return self.target_end if copy is None else copy

    def next_copy(self, source_offset: int) -> int | None:
        """Where the copy of the first copied record at or after `source_offset` is; None: no such record was copied."""
        run = self._first_ending_after(_SOURCE, source_offset)
        return None if run is None else run.target + max(0, source_offset - run.source)

    def to_source(self, target_offset: int) -> int | None:
        """Where a consumer that is to read `target_offset` next goes on in the source; None: copying has not begun."""
        if self._last is None:
            return None
        run = self._first_ending_after(_TARGET, target_offset)
        return self._last.position if run is None else run.source + max(0, target_offset - run.target)

    def copy_at(self, target_offset: int) -> Run | None:
        """The run that the record at this target offset was copied in; None: it is no copy."""
        run = self._first_ending_after(_TARGET, target_offset)
        return run if run is not None and run.target <= target_offset else None

    def runs(self) -> Iterator[Run]:
        """All runs, in order."""
        for index in range(len(self._closed)):
            yield from self._runs_of(index)
        if self._last is not None:
            yield from self._last.runs

    @property
    def size_bytes(self) -> int:
        """About what the map takes of memory."""
        open_runs = 0 if self._last is None else len(self._last.runs)
        return sum(map(len, self._closed)) + _CHUNK_BYTES * len(self._closed) + _OPEN_RUN_BYTES * open_runs

    def _first_ending_after(self, side: int, offset: int) -> Run | None:
        last = () if self._last is None else self._last.runs
        if last and last[0][side] <= offset:
            return _search(last, side, offset)
        if self._closed:
            index = max(0, bisect_right(self._starts[side], offset) - 1)
            found = _search(self._runs_of(index), side, offset)
            if found is not None:
                return found
            if index + 1 < len(self._closed):
                return self._runs_of(index + 1)[0]
        return last[0] if last else None

    def _last_run(self) -> Run | None:
        if self._last is not None and self._last.runs:
            return self._last.runs[-1]
        return self._runs_of(len(self._closed) - 1)[-1] if self._closed else None

    def _drop(self, count: int) -> None:
        self._first_number += count
        del self._closed[:count], self._starts[_SOURCE][:count], self._starts[_TARGET][:count]
        self._decoded = (-1, [])

    def _runs_of(self, index: int) -> list[Run]:
        if self._decoded[0] != index:
            self._decoded = (index, decode_runs(self._closed[index])[0])
        return self._decoded[1]


def _search(runs: Sequence[Run], side: int, offset: int) -> Run | None:
    """The first run that ends after `offset` on this side."""
    low, high = 0, len(runs)
    while low < high:
        middle = (low + high) // 2
        run = runs[middle]
        if run[side] + run[2] > offset:
            high = middle
        else:
            low = middle + 1
    return runs[low] if low < len(runs) else None
