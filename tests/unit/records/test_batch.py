import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import CorruptBatch, InvalidRecord
from ottla.records.batch import Compression, Record, decode_records, encode_batch, iterate_records, read_header
from ottla.records.header import patch_crc
from ottla.records.payload import assemble_batch, read_payload
from ottla.records.scan import find_timestamp, scan_batch
from ottla.records.varint import INT64_MAX, INT64_MIN, SMALL, decode_varint, encode_varint
from tests.unit.records.vectors import JAVA, record_lists, without_offsets

codecs = pytest.mark.parametrize("codec", list(Compression), ids=lambda codec: codec.name.lower())


def test_smallest_batch_byte_for_byte() -> None:
    batch = encode_batch([Record(timestamp=0x18BCFE56800, key=b"k", value=b"v")])
    assert batch.hex() == (
        "0000000000000000" "0000003a" "ffffffff" "02" "e99b8dd8" "0000" "00000000" "0000018bcfe56800" "0000018bcfe56800"
        "ffffffffffffffff" "ffff" "ffffffff" "00000001" "10" "00" "00" "00" "02" "6b" "02" "76" "00"
    )  # fmt: skip


@codecs
def test_records_of_kafkas_own_batches_are_read(codec: Compression) -> None:
    decoded = decode_records(JAVA[f"records_100_{codec.name.lower()}"])
    assert len(decoded) == 100
    assert [record.offset for record in decoded] == list(range(1000, 1100))
    assert decoded[0] == Record(1000, 1700000000000, None, b"0", (("hé", b"x"), ("n", None)))
    assert decoded[4] == Record(1004, 1700000000148, b"key-4", None, (("hé", b"x"), ("n", None)))
    assert decoded[48].value == b"value " * 48 + b"48"
    assert decoded == decode_records(JAVA["records_100_none"])


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.SNAPPY, Compression.LZ4])
def test_batches_equal_kafkas_byte_for_byte(codec: Compression) -> None:
    expected = JAVA[f"records_100_{codec.name.lower()}"]
    batch = encode_batch(
        decode_records(expected),
        base_offset=1000,
        compression=codec,
        producer_id=4711,
        producer_epoch=3,
        base_sequence=99,
        leader_epoch=7,
    )
    assert batch == expected


def test_log_append_time_of_kafkas_batch_is_read() -> None:
    header = read_header(JAVA["log_append_time"])
    assert {record.timestamp for record in decode_records(JAVA["log_append_time"])} == {header.max_timestamp}


@codecs
@given(record_lists)
def test_what_is_written_is_read(codec: Compression, written: list[Record]) -> None:
    decoded = decode_records(b"?" + encode_batch(written, base_offset=77, compression=codec) + b"?", 1)
    assert without_offsets(decoded) == [record._replace(offset=-1) for record in written]
    assert [record.offset for record in decoded] == list(range(77, 77 + len(written)))


@given(record_lists)
def test_scan_sees_what_decode_sees(written: list[Record]) -> None:
    batch = encode_batch(written, base_offset=5)
    _, payload = read_payload(batch)
    seen = [(entry.offset, entry.timestamp, entry.key, entry.has_value) for entry in scan_batch(batch)]
    assert seen == [(r.offset, r.timestamp, r.key, r.value is not None) for r in decode_records(batch)]
    assert b"".join(payload[entry.start : entry.end] for entry in scan_batch(batch)) == payload


@pytest.mark.parametrize("count", [1, 127, 128, 129, 1000])
def test_records_taken_a_few_at_a_time_are_the_same(count: int) -> None:
    batch = encode_batch([Record(timestamp=n, key=b"k", value=b"v" * n) for n in range(count)], base_offset=5)
    assert list(iterate_records(batch)) == decode_records(batch)


def test_sizes_around_the_steps_of_a_varint() -> None:
    for size in (0, 1, 62, 63, 64, 65, 8190, 8191, 8192, 8193, 4095, 4096, 1 << 20, (1 << 20) + 1):
        written = [Record(timestamp=size, key=bytes(size), value=bytes(size)), Record(timestamp=0, value=b"x")]
        assert without_offsets(decode_records(encode_batch(written))) == written


def test_more_records_than_small_varints() -> None:
    written = [Record(timestamp=index * 3, value=b"") for index in range(len(SMALL) * 3)]
    decoded = decode_records(encode_batch(written))
    assert decoded == [record._replace(offset=index) for index, record in enumerate(written)]


def test_a_batch_of_no_records_is_not_written() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        encode_batch([])


def test_header_name_that_is_not_utf8_is_read_as_java_reads_it() -> None:
    batch = bytearray(encode_batch([Record(timestamp=0, headers=(("ab", b"x"),))]))
    batch[batch.index(b"ab")] = 0xFF
    patch_crc(batch)
    assert decode_records(batch)[0].headers == (("\ufffdb", b"x"),)


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 1 << 30])
def test_wrong_count_of_records_is_refused_before_anything_is_built(count: int) -> None:
    header, payload = read_payload(encode_batch([Record(timestamp=0), Record(timestamp=1)]))
    header.record_count = count
    batch = assemble_batch(header, payload, Compression.NONE)
    with pytest.raises(InvalidRecord):
        decode_records(batch)
    with pytest.raises(InvalidRecord):
        list(iterate_records(batch))
    with pytest.raises(InvalidRecord):
        list(scan_batch(batch))


@pytest.mark.parametrize("codec", list(Compression)[1:], ids=lambda codec: codec.name.lower())
def test_bytes_behind_the_last_record_are_refused(codec: Compression) -> None:
    header, payload = read_payload(encode_batch([Record(timestamp=0)]))
    with pytest.raises(InvalidRecord, match="follow"):
        decode_records(assemble_batch(header, payload + b"\0", codec))


def test_wrong_crc_is_noticed_unless_the_caller_checked_it() -> None:
    batch = bytearray(encode_batch([Record(timestamp=0, value=b"a")]))
    batch[-2] = ord("b")
    with pytest.raises(CorruptBatch, match="CRC"):
        decode_records(batch)
    assert decode_records(batch, check_crc=False)[0].value == b"b"


def test_records_expand_to_no_more_than_the_caller_allows() -> None:
    batch = encode_batch([Record(timestamp=0, value=bytes(1000))], compression=Compression.ZSTD)
    assert decode_records(batch, max_bytes=2000)[0].value == bytes(1000)
    with pytest.raises(CorruptBatch):
        decode_records(batch, max_bytes=1000)


def test_first_record_at_or_after_a_timestamp() -> None:
    times = [10, 30, 20, 40]
    batch = encode_batch([Record(timestamp=time) for time in times], base_offset=100)
    found = [find_timestamp(batch, time) for time in (0, 11, 30, 31, 41)]
    assert [entry.offset if entry else None for entry in found] == [100, 101, 101, 103, None]
    later = find_timestamp(batch, 11, start_offset=102)
    assert later is not None and later.offset == 102


@given(st.integers(INT64_MIN, INT64_MAX))
def test_varints_of_64_bits(value: int) -> None:
    encoded = encode_varint(value)
    assert len(encoded) <= 10
    assert decode_varint(b"?" + encoded + b"\xff", 1) == (value, 1 + len(encoded))


def test_varint_longer_than_64_bits_is_refused() -> None:
    for encoded in (b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02", b"\x80" * 1000):
        with pytest.raises(CorruptBatch):
            decode_varint(encoded, 0)


def test_batch_that_compaction_emptied_may_name_a_codec() -> None:
    header, _ = read_payload(encode_batch([Record(timestamp=0)], compression=Compression.GZIP))
    header.record_count = 0
    batch = bytearray(assemble_batch(header, b"", Compression.NONE))
    batch[22] |= Compression.GZIP
    patch_crc(batch)
    assert decode_records(batch) == []
