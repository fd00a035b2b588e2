"""Runs of copied records: where offsets of source and target go in step, and the bytes that tell it.

The offset of a copy differs from its original's by a constant, until compaction, a transaction's marker, aborted data
or a record of somebody else leaves a gap on one side. One `Run` stands for all records between two gaps. Runs are
written in chunks of up to `CHUNK_RUNS`; four small numbers for each, mostly four bytes.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ottla.core.errors import DecodeError
from ottla.mirror.core.numbers import read_number, write_number

CHUNK_RUNS: Final = 64
"""Runs of a full chunk. The last chunk is written again with every transaction, so it is small (200 bytes); a lookup
decodes one."""


class Run(NamedTuple):
    """`length` records, at consecutive offsets from `source` on in the source and from `target` on in the target.

    `path` is an index into a table of provenance paths that stands beside the runs.
    """

    source: int
    target: int
    length: int
    path: int = 0

    @property
    def source_end(self) -> int:
        """The source offset after the last record."""
        return self.source + self.length

    @property
    def target_end(self) -> int:
        """The target offset after the last record."""
        return self.target + self.length


def follows(before: Run, after: Run) -> bool:
    """Whether the two are one run: no gap on either side, and the same provenance."""
    return (
        after.source == before.source + before.length
        and after.target == before.target + before.length
        and after.path == before.path
    )


def encode_runs(runs: Sequence[Run]) -> bytes:
    """The runs as bytes; they must ascend on both sides and hold at least a record each."""
    data = bytearray()
    write_number(data, len(runs))
    append = data.append
    source_end = target_end = 0
    for source, target, length, path in runs:
        for value in (source - source_end, target - target_end, length, path):
            if 0 <= value < 0x80:
                append(value)
            else:
                write_number(data, value)
        source_end, target_end = source + length, target + length
    return bytes(data)


def decode_runs(data: bytes, position: int = 0) -> tuple[list[Run], int]:
    """The runs at `position` and the position after them; DecodeError when they are cut off or malformed."""
    count, position = read_number(data, position)
    if count * 4 > len(data) - position:
        raise DecodeError(f"{count} runs cannot stand in {len(data) - position} bytes")
    runs: list[Run] = []
    append, new = runs.append, tuple.__new__
    source = target = 0
    for _ in range(count):
        four = data[position : position + 4]
        if four.isascii() and len(four) == 4:  # numbers of a byte each, as nearly all are
            source_gap, target_gap, length, path = four
            position += 4
        else:
            source_gap, position = read_number(data, position)
            target_gap, position = read_number(data, position)
            length, position = read_number(data, position)
            path, position = read_number(data, position)
        if length == 0:
            raise DecodeError("a run of no records")
        source += source_gap
        target += target_gap
        append(new(Run, (source, target, length, path)))
        source += length
        target += length
    return runs, position


def join(before: Iterable[Run], runs: Iterable[Run]) -> list[Run]:
    """The runs, after those before, in as few as there are gaps; those before are in as few already."""
    joined = list(before)
    for run in runs:
        if joined and follows(joined[-1], run):
            last = joined[-1]
            joined[-1] = last._replace(length=last.length + run.length)
        else:
            joined.append(run)
    return joined
