"""Control records: what stands in the log for brokers, and consumers never see (KIP-98, KIP-595).

A control record's key is a version and a type; the value depends on the type. Ottla writes the markers that end a
transaction. The records of Kafka's own metadata quorum are told apart and left to whoever knows them.
"""

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from ottla.core.errors import InvalidRecord
from ottla.core.types import Buffer
from ottla.records.batch import decode_records, encode_batch
from ottla.records.compression import COMPRESSION_MASK
from ottla.records.header import ATTRIBUTES_POSITION, NO_LEADER_EPOCH, validate
from ottla.records.record import Record

_KEY: Final = Struct(">hh")  # version, type
_END_TRANSACTION: Final = Struct(">hi")  # version, coordinator epoch; a later version may append fields

# A batch that holds such a marker and nothing else, as Kafka and Ottla write it, from its attributes on: these, the
# record count, lengths and deltas of the record, key, the value's length, value, count of headers.
_USUAL: Final = Struct(">h34xi5shhBhiB")
_USUAL_LENGTHS: Final = bytes((16 << 1, 0, 0, 0, _KEY.size << 1))
_USUAL_FORM: Final = (1, _USUAL_LENGTHS, _END_TRANSACTION.size << 1, 0)
_USUAL_BYTES = ATTRIBUTES_POSITION + _USUAL.size


class ControlType(IntEnum):
    """The types of control records; any other number is a later Kafka's, and `UNKNOWN` here."""

    UNKNOWN = -1
    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


_BY_NUMBER = {int(control_type): control_type for control_type in ControlType if control_type >= 0}


class EndTransactionMarker(NamedTuple):
    """The end of a transaction on one partition."""

    committed: bool
    coordinator_epoch: int


def control_type(key: bytes | None) -> ControlType:
    """The type that a control record's key names; InvalidRecord when it is not such a key."""
    if key is None or len(key) < _KEY.size:
        raise InvalidRecord("a control record without the key of one")
    version, number = _KEY.unpack_from(key)
    if version < 0:
        raise InvalidRecord(f"a control record of version {version}")
    return _BY_NUMBER.get(number, ControlType.UNKNOWN)


def read_end_transaction_marker(batch: Buffer, *, check_crc: bool = True) -> EndTransactionMarker:
    """What the control batch that ends a transaction says; CorruptBatch when it is none, or damaged.

    `check_crc=False` is for those who validated the batch already.
    """
    if len(batch) == _USUAL_BYTES:
        attributes, count, lengths, key_version, number, value_bytes, version, epoch, headers = _USUAL.unpack_from(
            batch, ATTRIBUTES_POSITION
        )
        is_usual = not attributes & COMPRESSION_MASK and (count, lengths, value_bytes, headers) == _USUAL_FORM
        if is_usual and key_version >= 0 and version >= 0 and number in (ControlType.ABORT, ControlType.COMMIT):
            if check_crc:
                validate(batch)
            return EndTransactionMarker(number == ControlType.COMMIT, epoch)
    records = decode_records(batch, check_crc=check_crc)
    if not records:
        raise InvalidRecord("a control batch without a record")
    record = records[0]
    kind = control_type(record.key)
    if kind not in (ControlType.COMMIT, ControlType.ABORT):
        raise InvalidRecord(f"a control record of type {kind.name} does not end a transaction")
    if record.value is None or len(record.value) < _END_TRANSACTION.size:
        raise InvalidRecord("the value of a transaction's end marker is cut off")
    version, coordinator_epoch = _END_TRANSACTION.unpack_from(record.value)
    if version < 0:
        raise InvalidRecord(f"a transaction's end marker of version {version}")
    return EndTransactionMarker(kind is ControlType.COMMIT, coordinator_epoch)


def encode_end_transaction_marker(
    *,
    committed: bool,
    coordinator_epoch: int,
    producer_id: int,
    producer_epoch: int,
    timestamp_ms: int,
    base_offset: int = 0,
    leader_epoch: int = NO_LEADER_EPOCH,
) -> bytes:
    """The control batch that ends a producer's transaction on a partition."""
    kind = ControlType.COMMIT if committed else ControlType.ABORT
    record = Record(timestamp=timestamp_ms, key=_KEY.pack(0, kind), value=_END_TRANSACTION.pack(0, coordinator_epoch))
    return encode_batch(
        [record],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        is_transactional=True,
        is_control=True,
    )
