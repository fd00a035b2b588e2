"""Producer states and aborted transactions as files, in Kafka's layouts (`.snapshot`, `.txnindex`).

Kafka's snapshot ends with one row for each producer. What Ottla remembers besides follows it, where Kafka does not look
(its CRC covers it): the batches before each producer's last one, and transactions whose marker was not below the high
watermark. A file without that part, Kafka's own, is a whole snapshot too.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from crc32c import crc32c

from ottla.core.ports import Files
from ottla.partitions.idle_producers import EARLIER, ROW
from ottla.partitions.producer_state import AbortedTransaction, ProducerSnapshot, ProducerStates
from ottla.partitions.segment import SNAPSHOT_SUFFIX, file_name
from ottla.partitions.segment_files import read_optional

_VERSION: Final = 1
_HEADER: Final = Struct(">hIi")
_MORE: Final = Struct(">hii")  # version, rows of earlier batches, ended transactions
_MORE_VERSION: Final = 1
_ENDED: Final = Struct(">qq")
_ABORTED: Final = Struct(">hqqqq")
_CRC_FROM: Final = 6  # version and the CRC itself are not covered


def encode_snapshot(snapshot: ProducerSnapshot) -> bytes:
    """The file; to be made off the loop, as there may be millions of rows."""
    rows, earlier = b"".join(snapshot.rows), b"".join(snapshot.earlier)
    more = _MORE.pack(_MORE_VERSION, len(earlier) // EARLIER.size, len(snapshot.ended))
    ended = b"".join([_ENDED.pack(*entry) for entry in snapshot.ended])
    parts = ((len(rows) // ROW.size).to_bytes(4, "big"), rows, more, earlier, ended)
    crc = 0
    for part in parts:
        crc = crc32c(part, crc)
    return b"".join((_VERSION.to_bytes(2, "big"), crc.to_bytes(4, "big"), *parts))


def decode_snapshot(data: bytes) -> ProducerSnapshot | None:
    """None when the file is not a whole snapshot: an older one, or the log itself, serves instead."""
    if len(data) < _HEADER.size:
        return None
    view = memoryview(data)
    version, crc, count = _HEADER.unpack_from(data)
    if version != _VERSION or count < 0 or crc32c(view[_CRC_FROM:]) != crc:
        return None
    end = _HEADER.size + count * ROW.size
    rows = bytes(view[_HEADER.size : end])
    if len(data) == end:
        return ProducerSnapshot([rows], [], ())
    if len(data) < end + _MORE.size:
        return None
    version, earlier_count, ended_count = _MORE.unpack_from(data, end)
    start = end + _MORE.size
    middle = start + earlier_count * EARLIER.size
    if version != _MORE_VERSION or len(data) != middle + ended_count * _ENDED.size:
        return None
    return ProducerSnapshot([rows], [bytes(view[start:middle])], tuple(_ENDED.iter_unpack(view[middle:])))


def snapshot_offsets(names: Iterable[str]) -> list[int]:
    """Offsets of the snapshots among the names of a directory, ascending."""
    stems = (name.removesuffix(SNAPSHOT_SUFFIX) for name in names if name.endswith(SNAPSHOT_SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def restore_snapshot(files: Files, directory: str, names: set[str], limit: int, states: ProducerStates) -> int:
    """Restore the newest usable snapshot at or below `limit`; the offset from which on the log must be read.

    Newer ones go, durably: other batches than those they speak of may get these offsets.
    """
    found, removed = 0, False
    for offset in reversed(snapshot_offsets(names)):
        path = f"{directory}/{file_name(offset, SNAPSHOT_SUFFIX)}"
        if offset > limit:
            files.remove(path)
            removed = True
            continue
        snapshot = decode_snapshot(files.read_bytes(path))
        if snapshot is not None:
            states.restore(snapshot, offset)
            found = offset
            break
    if removed:
        files.sync_directory(directory)
    return found


def encode_aborted(aborted: list[AbortedTransaction]) -> bytes:
    """Entries of a transaction index."""
    return b"".join(
        _ABORTED.pack(0, entry.producer_id, entry.first_offset, entry.last_offset, entry.last_stable_offset)
        for entry in aborted
    )


def read_aborted(files: Files, path: str) -> list[AbortedTransaction]:
    """Entries of a transaction index; what an incomplete last entry says is found again in the log."""
    data = read_optional(files, path)
    whole = len(data) - len(data) % _ABORTED.size
    return [AbortedTransaction(*row[1:]) for row in _ABORTED.iter_unpack(data[:whole])]
