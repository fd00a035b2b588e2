"""Compaction of a batch: the same bytes that Kafka's `MemoryRecords.filterTo` writes, and what must never be lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import CorruptBatch
from ottla.records.batch import Compression, Record, decode_records, encode_batch, patch_log_append_time, read_header
from ottla.records.filtering import filter_batch
from ottla.records.header import validate
from tests.unit.records.vectors import JAVA, JAVA_HORIZON_MS, record_lists

SOURCE = JAVA["filter_source"]


def test_batch_without_tombstones_equals_kafkas() -> None:
    filtered = filter_batch(SOURCE, keep=lambda entry: entry.offset % 5 == 0, new_delete_horizon_ms=JAVA_HORIZON_MS)
    assert filtered == JAVA["filtered_no_tombstone"]


def test_first_kept_tombstone_sets_the_delete_horizon_as_kafka_does() -> None:
    filtered = filter_batch(SOURCE, keep=lambda entry: entry.offset % 2 == 0, new_delete_horizon_ms=JAVA_HORIZON_MS)
    assert filtered == JAVA["filtered_tombstone"]
    assert read_header(filtered).delete_horizon_ms == JAVA_HORIZON_MS


def test_delete_horizon_is_set_only_once() -> None:
    filtered = filter_batch(
        JAVA["filtered_tombstone"], keep=lambda entry: entry.offset % 6 == 0, new_delete_horizon_ms=JAVA_HORIZON_MS * 2
    )
    assert filtered == JAVA["filtered_twice"]
    assert read_header(filtered).delete_horizon_ms == JAVA_HORIZON_MS


def test_emptied_batch_of_a_live_producer_equals_kafkas() -> None:
    filtered = filter_batch(SOURCE, keep=lambda entry: False, retain_empty=True)
    assert filtered == JAVA["filtered_empty"]
    assert decode_records(filtered) == []
    assert filter_batch(filtered, keep=lambda entry: True, retain_empty=True) == filtered


def test_marker_of_an_empty_transaction_gets_a_delete_horizon_as_kafkas() -> None:
    filtered = filter_batch(
        JAVA["commit"],
        keep=lambda entry: True,
        new_delete_horizon_ms=JAVA_HORIZON_MS,
        is_empty_transaction_marker=True,
    )
    assert filtered == JAVA["filtered_marker"]


def test_marker_of_a_transaction_that_has_records_stays_as_it_is() -> None:
    kept = filter_batch(JAVA["commit"], keep=lambda entry: True, new_delete_horizon_ms=JAVA_HORIZON_MS)
    assert kept == JAVA["commit"]


def test_nothing_is_left_of_a_batch_that_nobody_needs() -> None:
    assert filter_batch(SOURCE, keep=lambda entry: False) is None


def test_log_append_time_survives() -> None:
    batch = bytearray(SOURCE)
    patch_log_append_time(batch, 0, 1234)
    filtered = filter_batch(batch, keep=lambda entry: entry.offset == 4, new_delete_horizon_ms=JAVA_HORIZON_MS)
    assert filtered is not None
    assert read_header(filtered).is_log_append_time
    assert [record.timestamp for record in decode_records(filtered)] == [1234]


@given(record_lists, st.sets(st.integers(0, 19)), st.sampled_from(list(Compression)), st.none() | st.just(1 << 40))
def test_kept_records_are_unchanged_and_the_header_keeps_its_place(
    written: list[Record], kept: set[int], codec: Compression, horizon: int | None
) -> None:
    batch = b"?" + encode_batch(
        written, base_offset=50, compression=codec, producer_id=3, producer_epoch=1, base_sequence=8, leader_epoch=6
    )
    before = read_header(batch, 1)
    expected = [record for record in decode_records(batch, 1) if record.offset - 50 in kept]
    filtered = filter_batch(
        batch, 1, keep=lambda entry: entry.offset - 50 in kept, new_delete_horizon_ms=horizon, retain_empty=True
    )
    assert filtered is not None
    after = validate(filtered)
    assert decode_records(filtered) == expected
    for name in ("base_offset", "last_offset", "producer_id", "producer_epoch", "base_sequence", "last_sequence"):
        assert getattr(after, name) == getattr(before, name)
    assert after.partition_leader_epoch == 6
    assert after.compression in (codec, Compression.NONE)
    assert after.has_delete_horizon == (horizon is not None and any(record.value is None for record in expected))
    if expected:
        assert after.max_timestamp == max(record.timestamp for record in expected)


def test_damaged_batch_is_not_compacted() -> None:
    damaged = bytearray(SOURCE)
    damaged[-1] ^= 1
    with pytest.raises(CorruptBatch):
        filter_batch(damaged, keep=lambda entry: True)


def test_batch_that_stays_whole_is_not_compressed_again() -> None:
    batch = encode_batch([Record(timestamp=0, key=b"k", value=b"v")] * 3, compression=Compression.GZIP)
    assert filter_batch(batch, keep=lambda entry: True) == batch
