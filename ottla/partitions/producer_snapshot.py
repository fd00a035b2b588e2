"""Producer states and aborted transactions as files, in Kafka's layouts (`.snapshot`, `.txnindex`)."""

from collections.abc import Iterable
from struct import Struct

from crc32c import crc32c

from ottla.core.ports import Files
from ottla.partitions.producer_state import AbortedTransaction, ProducedBatch, Producer, ProducerStates
from ottla.partitions.segment import SNAPSHOT_SUFFIX, file_name
from ottla.partitions.segment_files import read_optional

_VERSION = 1
_HEADER = Struct(">hIi")
_PRODUCER = Struct(">qhiqiqiq")
_ABORTED = Struct(">hqqqq")
_CRC_FROM = 6  # version and the CRC itself are not covered


def encode_snapshot(states: ProducerStates) -> bytes:
    """Kafka's layout keeps only the last batch of each producer."""
    rows = []
    for producer in states.producers.values():
        last = producer.batches[-1] if producer.batches else ProducedBatch(-1, -1, 0, producer.last_timestamp)
        first = producer.transaction_first_offset
        rows.append(
            _PRODUCER.pack(
                producer.producer_id,
                producer.epoch,
                last.last_sequence,
                last.last_offset,
                last.offset_delta,
                producer.last_timestamp,
                producer.coordinator_epoch,
                -1 if first is None else first,
            )
        )
    body = len(rows).to_bytes(4, "big") + b"".join(rows)
    return _VERSION.to_bytes(2, "big") + crc32c(body).to_bytes(4, "big") + body


def decode_snapshot(data: bytes) -> list[Producer] | None:
    """None when the file is not a whole snapshot: an older one, or the log itself, serves instead."""
    if len(data) < _HEADER.size:
        return None
    version, crc, count = _HEADER.unpack_from(data)
    if version != _VERSION or crc32c(data[_CRC_FROM:]) != crc or len(data) != _HEADER.size + count * _PRODUCER.size:
        return None
    producers = []
    for row in _PRODUCER.iter_unpack(data[_HEADER.size :]):
        producer_id, epoch, sequence, offset, delta, timestamp, coordinator_epoch, first = row
        producer = Producer(producer_id, epoch, coordinator_epoch, timestamp, None if first < 0 else first)
        if offset >= 0:
            producer.batches.append(ProducedBatch(sequence, offset, delta, timestamp))
        producers.append(producer)
    return producers


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
        producers = decode_snapshot(files.read_bytes(path))
        if producers is not None:
            states.restore(producers, offset)
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
