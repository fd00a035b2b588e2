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
    parts = bytearray()
    write_number(parts, len(runs))
    source = target = 0
    for run in runs:
        write_number(parts, run.source - source)
        write_number(parts, run.target - target)
        write_number(parts, run.length)
        write_number(parts, run.path)
        source, target = run.source_end, run.target_end
    return bytes(parts)


def decode_runs(data: bytes, position: int = 0) -> tuple[list[Run], int]:
    """The runs at `position` and the position after them; DecodeError when they are cut off or malformed."""
    count, position = read_number(data, position)
    if count * 4 > len(data) - position:
        raise DecodeError(f"{count} runs cannot stand in {len(data) - position} bytes")
    runs = []
    source = target = 0
    for _ in range(count):
        source_gap, position = read_number(data, position)
        target_gap, position = read_number(data, position)
        length, position = read_number(data, position)
        path, position = read_number(data, position)
        if length == 0:
            raise DecodeError("a run of no records")
        source, target = source + source_gap, target + target_gap
        runs.append(Run(source, target, length, path))
        source, target = source + length, target + length
    return runs, position


def join(runs: Iterable[Run]) -> list[Run]:
    """The same records in as few runs as there are gaps."""
    joined: list[Run] = []
    for run in runs:
        if joined and follows(joined[-1], run):
            last = joined[-1]
            joined[-1] = last._replace(length=last.length + run.length)
        else:
            joined.append(run)
    return joined
