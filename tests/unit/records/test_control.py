import pytest

from ottla.core.errors import CorruptBatch, InvalidRecord
from ottla.records.aborted import AbortedFilter
from ottla.records.batch import Record, decode_records, encode_batch, read_header
from ottla.records.control import (
    ControlType,
    EndTransactionMarker,
    control_type,
    encode_end_transaction_marker,
    read_end_transaction_marker,
)
from ottla.records.filtering import filter_batch
from tests.unit.records.vectors import JAVA


@pytest.mark.parametrize(("name", "committed"), [("commit", True), ("abort", False)])
def test_markers_equal_kafkas_byte_for_byte(name: str, committed: bool) -> None:
    batch = encode_end_transaction_marker(
        committed=committed,
        coordinator_epoch=12,
        producer_id=4711,
        producer_epoch=3,
        timestamp_ms=1700000000000,
        base_offset=40,
        leader_epoch=7,
    )
    assert batch == JAVA[name]
    header = read_header(batch)
    assert header.is_control and header.is_transactional
    assert read_end_transaction_marker(batch) == EndTransactionMarker(committed, 12)


def test_records_of_kafkas_quorum_are_told_apart() -> None:
    [record] = decode_records(JAVA["leader_change"])
    assert control_type(record.key) is ControlType.LEADER_CHANGE
    with pytest.raises(InvalidRecord, match="LEADER_CHANGE"):
        read_end_transaction_marker(JAVA["leader_change"])


def test_type_of_a_later_kafka_is_unknown_and_no_error() -> None:
    assert control_type(b"\x00\x00\x00\x63") is ControlType.UNKNOWN
    assert control_type(b"\x00\x05\x00\x01more") is ControlType.COMMIT


@pytest.mark.parametrize("key", [None, b"", b"\0\0\0", b"\xff\xff\0\0"])
def test_key_that_is_none_of_a_control_record_is_refused(key: bytes | None) -> None:
    with pytest.raises(InvalidRecord):
        control_type(key)


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\0\0", b"\xff\xff\0\0\0\0"])
def test_malformed_marker_is_refused(value: bytes | None) -> None:
    with pytest.raises(InvalidRecord):
        read_end_transaction_marker(encode_batch([Record(key=b"\0\0\0\0", value=value)], is_control=True))


def test_control_batch_without_a_record_is_no_marker() -> None:
    emptied = filter_batch(JAVA["commit"], keep=lambda _: False, retain_empty=True)
    assert emptied is not None
    with pytest.raises(CorruptBatch, match="without a record"):
        read_end_transaction_marker(emptied)


def test_reader_of_committed_records_leaves_out_the_aborted_transaction_only() -> None:
    def transactional(offset: int, producer_id: int) -> bytes:
        return encode_batch([Record(timestamp=0)], base_offset=offset, producer_id=producer_id, is_transactional=True)

    def marker(offset: int, producer_id: int, *, committed: bool) -> bytes:
        return encode_end_transaction_marker(
            committed=committed,
            coordinator_epoch=0,
            producer_id=producer_id,
            producer_epoch=0,
            timestamp_ms=0,
            base_offset=offset,
        )

    batches = [
        transactional(0, 1),
        transactional(1, 2),
        marker(2, 1, committed=False),
        transactional(3, 1),
        marker(4, 2, committed=True),
        marker(5, 1, committed=True),
        encode_batch([Record(timestamp=0)], base_offset=6),
    ]
    left_out = AbortedFilter([(1, 0)])
    seen = [
        read_header(batch).base_offset for batch in batches if not left_out(read_header(batch), decode_records(batch))
    ]
    assert seen == [1, 3, 6]
    everything = AbortedFilter(None)
    seen = [read_header(batch).base_offset for batch in batches if not everything(read_header(batch), [])]
    assert seen == [0, 1, 3, 6]


def outcome(batch: bytes) -> object:
    try:
        return read_end_transaction_marker(batch, check_crc=False)
    except CorruptBatch as error:
        return type(error)


def test_the_usual_marker_is_read_as_any_other_would_be() -> None:
    usual = encode_end_transaction_marker(
        committed=True, coordinator_epoch=7, producer_id=1, producer_epoch=0, timestamp_ms=5
    )
    for place in [22, 60, *range(61, len(usual))]:  # the low byte of the attributes, that of the count, the record
        for value in (*range(16), 32, 0x7F, 0x80, 0xFF):
            other = bytearray(usual)
            other[place] = value
            longer = bytes(other) + b"\0"  # what follows a batch is no matter, and this is not the usual length
            assert outcome(bytes(other)) == outcome(longer), (place, value)
    damaged = bytearray(usual)
    damaged[70] ^= 1
    with pytest.raises(CorruptBatch):
        read_end_transaction_marker(damaged)
