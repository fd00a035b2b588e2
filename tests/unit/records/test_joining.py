"""Batches joined into one hold what decoding and encoding them would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import CorruptBatch
from ottla.records.batch import Compression, Record, decode_records, encode_batch, read_header
from ottla.records.joining import join_batches
from tests.unit.records.vectors import record_lists


@given(
    lists=st.lists(record_lists, min_size=1, max_size=4),
    codec=st.sampled_from([Compression.NONE, Compression.LZ4, Compression.GZIP]),
    prefix=st.binary(max_size=5),
)
def test_joined_batches_are_the_batch_of_all_their_records(
    lists: list[list[Record]], codec: Compression, prefix: bytes
) -> None:
    batches = [encode_batch(records, base_offset=7 * index, compression=codec) for index, records in enumerate(lists)]
    positions, data = [], prefix
    for batch in batches:
        positions.append(len(data))
        data += batch
    joined = join_batches(data, positions)
    expected = encode_batch([record for records in lists for record in records], compression=codec)
    assert decode_records(joined) == decode_records(expected)
    assert read_header(joined).max_timestamp == read_header(expected).max_timestamp
    if codec is Compression.NONE:
        assert joined == expected


def test_many_records_get_offsets_of_several_bytes() -> None:
    batches = [encode_batch([Record(timestamp=number, value=b"x")]) for number in range(9000)]
    data = b"".join(batches)
    positions, position = [], 0
    for batch in batches:
        positions.append(position)
        position += len(batch)
    assert [one.offset for one in decode_records(join_batches(data, positions))] == list(range(9000))


def test_a_damaged_batch_is_refused() -> None:
    good = encode_batch([Record(timestamp=1, value=b"good")])
    bad = bytearray(good)
    bad[-2] ^= 1
    with pytest.raises(CorruptBatch):
        join_batches(good + bytes(bad), [0, len(good)])
    with pytest.raises(ValueError, match="at least one record"):
        join_batches(good, [])
