"""`Record` messages into batches and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.fetch_messages import FetchedPartition
from ottla.core.errors import ApiError, CorruptBatch, ErrorCode
from ottla.grpc_api.record_forms import MAX_STRUCTURED_BATCH_RECORDS, batch_of, next_offset_of, records_of
from ottla.records.batch import Compression, Record, encode_batch, read_header
from ottla.v1 import records_pb2

some_bytes = st.none() | st.binary(max_size=20)
some_records = st.lists(
    st.builds(
        records_pb2.Record,
        key=some_bytes,
        value=some_bytes,
        headers=st.lists(st.builds(records_pb2.Header, key=st.text(max_size=5), value=some_bytes), max_size=3),
        timestamp_ms=st.integers(0, 2**41),
    ),
    min_size=1,
    max_size=20,
)


def fetched(aborted: list[tuple[int, int]] | None = None) -> FetchedPartition:
    partition = FetchedPartition("t", 0)
    partition.aborted = aborted
    return partition


@given(some_records, st.sampled_from(list(Compression)))
def test_what_goes_in_comes_out(records: list[records_pb2.Record], codec: Compression) -> None:
    compression = records_pb2.Compression.ValueType(codec)
    data = batch_of(records_pb2.RecordSet(records=records, compression=compression), now_ms=1)
    found, next_offset = records_of(data, fetched(), 0)
    for offset, record in enumerate(records):
        record.offset = offset
    assert list(found) == records
    assert next_offset == len(records) == next_offset_of(data, 0)


def test_a_record_without_a_time_gets_the_brokers() -> None:
    data = batch_of(records_pb2.RecordSet(records=[records_pb2.Record(value=b"x")]), now_ms=1234)
    assert read_header(data).base_timestamp == 1234


def test_a_producers_sequence_stands_in_the_batch() -> None:
    producer = records_pb2.ProducerSequence(producer_id=7, producer_epoch=1, base_sequence=3)
    data = batch_of(records_pb2.RecordSet(records=[records_pb2.Record()], producer=producer), now_ms=1)
    header = read_header(data)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 1, 3)


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (records_pb2.RecordSet(), ErrorCode.INVALID_RECORD),
        (
            records_pb2.RecordSet(
                records=[records_pb2.Record()],
                compression=9,  # type: ignore[arg-type]
            ),
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
        ),
        (records_pb2.RecordSet(records=[records_pb2.Record(value=bytes(5 << 20))]), ErrorCode.MESSAGE_TOO_LARGE),
    ],
)
def test_what_cannot_be_a_batch_is_refused(records: records_pb2.RecordSet, code: ErrorCode) -> None:
    with pytest.raises(ApiError) as caught:
        batch_of(records, now_ms=1)
    assert caught.value.code is code


def test_reading_skips_what_lies_before_and_what_was_aborted() -> None:
    def batch(offset: int, value: bytes, producer_id: int, *, control: int | None = None) -> bytes:
        key = None if control is None else b"\0\0" + control.to_bytes(2, "big")
        return encode_batch(
            [Record(0, 1, key, value)],
            base_offset=offset,
            producer_id=producer_id,
            producer_epoch=0,
            is_transactional=True,
            is_control=control is not None,
        )

    data = batch(0, b"before", 2) + batch(1, b"aborted", 1) + batch(2, b"good", 2) + batch(3, b"", 1, control=0)
    committed, next_offset = records_of(data, fetched([(1, 1)]), 1)
    assert ([record.value for record in committed], next_offset) == ([b"good"], 4)
    uncommitted, next_offset = records_of(data, fetched(), 1)
    assert ([record.value for record in uncommitted], next_offset) == ([b"aborted", b"good"], 4)


def test_a_small_batch_of_very_many_records_is_not_given_as_messages() -> None:
    records = [Record(timestamp=0, value=b"")] * (MAX_STRUCTURED_BATCH_RECORDS + 1)
    data = encode_batch(records, compression=Compression.ZSTD)
    with pytest.raises(CorruptBatch, match="fetch it as a batch"):
        records_of(data, fetched(), 0)
