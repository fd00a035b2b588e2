"""Reads log segments and their indexes from disk, without a node, and says what is wrong with them.

Files are mapped, not read, so a segment of a gigabyte needs no memory of its own. Nothing is ever changed.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from ottla.core.errors import ConfigError, DecodeError
from ottla.records.batch import HEADER_BYTES, BatchHeader, Record, decode_records, read_header, validate

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"

_PIECE = 65_536

OFFSET_ENTRY = Struct(">iI")
TIME_ENTRY = Struct(">qi")


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What verifying one segment found. `note` is no damage: an unfinished write that the next start cuts off."""

    path: Path
    batches: int = 0
    records: int = 0
    valid_bytes: int = 0
    next_offset: int = -1
    damage: list[str] = field(default_factory=list)
    note: str = ""


def segments(paths: tuple[Path, ...]) -> list[Path]:
    """Every segment among `paths`: files as they are named, directories searched; raises ConfigError for others."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(path.rglob(f"*{LOG_SUFFIX}"), key=lambda one: (str(one.parent), one.name))
            found += [one for one in below if one.stem.isdigit()]
        elif path.suffix == LOG_SUFFIX and not path.stem.isdigit():
            raise ConfigError(f"{path} is no segment: these are named by their first offset, 00000000000000000000.log")
        elif path.is_file():
            found.append(path)
        else:
            raise ConfigError(f"there is no file or directory {path}")
    return found


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """The file's bytes."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            yield memoryview(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            view = memoryview(whole)
            try:
                yield view
            finally:
                view.release()


def batches(data: memoryview) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of every batch; ends before reserved space and before an unfinished batch."""
    position = 0
    while len(data) - position >= HEADER_BYTES and not _is_reserved(data, position):
        header = read_header(data, position)
        if header.size_bytes > len(data) - position:
            return
        yield position, header
        position += header.size_bytes


def records_of(data: memoryview, position: int) -> list[Record]:
    """The records of the batch at `position`."""
    return list(decode_records(data, position))


def verify(path: Path, *, is_last: bool) -> Verdict:
    """Check lengths, CRCs and offsets of a segment's batches, and its indexes against them.

    In the last segment of a partition a batch that is cut off at the end is what a crash leaves behind.
    """
    verdict = Verdict(path=path)
    starts: dict[int, BatchHeader] = {}
    with mapped(path) as data:
        position = _verify_batches(data, verdict, starts)
        verdict.valid_bytes = position
        if not verdict.damage and position < len(data) and not _is_reserved(data, position):
            text = f"the batch at byte {position} is cut off: {len(data) - position} bytes are left"
            if is_last:
                verdict.note = f"{text}; an unfinished write, which the next start cuts off"
            else:
                verdict.damage.append(text)
    if not verdict.damage:
        _verify_offset_index(path.with_suffix(INDEX_SUFFIX), starts, verdict)
        _verify_time_index(path.with_suffix(TIME_INDEX_SUFFIX), verdict)
    return verdict


def _verify_batches(data: memoryview, verdict: Verdict, starts: dict[int, BatchHeader]) -> int:
    """Walk the batches until the first that is wrong; the position behind the last that is right."""
    position = 0
    expected = int(verdict.path.stem) if verdict.path.stem.isdigit() else 0
    while len(data) - position >= HEADER_BYTES and not _is_reserved(data, position):
        try:
            header = read_header(data, position)
            if header.size_bytes > len(data) - position:
                break
            validate(data, position)
        except DecodeError as error:
            verdict.damage.append(f"the batch at byte {position}: {error}")
            break
        if header.base_offset < expected:
            verdict.damage.append(
                f"the batch at byte {position} begins with offset {header.base_offset}, expected {expected} or more"
            )
            break
        starts[position] = header
        verdict.batches += 1
        verdict.records += header.record_count
        position += header.size_bytes
        expected = verdict.next_offset = header.next_offset
    return position


def _verify_offset_index(path: Path, starts: dict[int, BatchHeader], verdict: Verdict) -> None:
    if not path.exists():
        return
    base = int(path.stem)
    previous = -1
    for offset, position in offset_entries(path):
        header = starts.get(position)
        if header is None:
            verdict.damage.append(f"{path.name}: an entry leads to byte {position}, where no batch begins")
            return
        if not header.base_offset <= base + offset <= header.last_offset:
            verdict.damage.append(
                f"{path.name}: an entry says offset {base + offset} at byte {position}, "
                f"where {header.base_offset} to {header.last_offset} are"
            )
            return
        if offset <= previous:
            verdict.damage.append(f"{path.name}: offset {base + offset} does not ascend")
            return
        previous = offset


def _verify_time_index(path: Path, verdict: Verdict) -> None:
    if not path.exists():
        return
    previous = (-1, -1)
    for timestamp, offset in time_entries(path):
        if timestamp < previous[0] or offset < previous[1]:
            verdict.damage.append(f"{path.name}: the entry of time {timestamp} does not ascend")
            return
        if verdict.next_offset >= 0 and int(path.stem) + offset >= verdict.next_offset:
            verdict.damage.append(f"{path.name}: an entry names offset {int(path.stem) + offset}, which is not there")
            return
        previous = (timestamp, offset)


def offset_entries(path: Path) -> list[tuple[int, int]]:
    """(offset within the segment, position) of an offset index; space reserved at its end is left out."""
    entries = _entries(OFFSET_ENTRY, path)
    while entries and entries[-1] == (0, 0) and len(entries) > 1:
        entries.pop()
    return entries


def time_entries(path: Path) -> list[tuple[int, int]]:
    """(timestamp, offset within the segment) of a time index; space reserved at its end is left out."""
    entries = _entries(TIME_ENTRY, path)
    while entries and entries[-1] == (0, 0):
        entries.pop()
    return entries


def _entries(layout: Struct, path: Path) -> list[tuple[int, int]]:
    data = path.read_bytes()
    return list(layout.iter_unpack(data[: len(data) - len(data) % layout.size]))


def _is_reserved(data: memoryview, position: int) -> bool:
    """Whether the rest is space reserved for later batches: zeros, where a batch would have a length and a magic."""
    if any(data[position : position + HEADER_BYTES]):
        return False
    return not any(any(data[start : start + _PIECE]) for start in range(position, len(data), _PIECE))
