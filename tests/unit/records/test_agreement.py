"""Batches of aiokafka and kafka-python: byte for byte where nothing is compressed, readable both ways in every codec.

The live suite in `tests/interop` holds the same for librdkafka, which has no encoder that works without a broker.
"""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AioBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AioBuilder
from hypothesis import given
from kafka.record.default_records import DefaultRecordBatch as KafkaPythonBatch
from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

from ottla.records.batch import Compression, Record, decode_records, encode_batch
from tests.unit.records.vectors import JAVA, dated_record_lists, without_offsets

PEERS = {"aiokafka": (AioBuilder, AioBatch), "kafka-python": (KafkaPythonBuilder, KafkaPythonBatch)}
peers = pytest.mark.parametrize("peer", list(PEERS))
codecs = pytest.mark.parametrize("codec", list(Compression), ids=lambda codec: codec.name.lower())


def written_by(peer: str, records: list[Record], codec: Compression) -> bytes:
    builder = PEERS[peer][0](
        magic=2,
        compression_type=int(codec),
        is_transactional=False,
        producer_id=4711,
        producer_epoch=3,
        base_sequence=99,
        batch_size=1 << 30,
    )
    for offset, record in enumerate(records):
        builder.append(offset, record.timestamp, record.key, record.value, list(record.headers))
    return bytes(builder.build())


def read_by(peer: str, batch: bytes) -> list[Record]:
    reader = PEERS[peer][1](bytearray(batch))
    assert reader.validate_crc()
    return [
        Record(
            record.offset,
            record.timestamp,
            None if record.key is None else bytes(record.key),
            None if record.value is None else bytes(record.value),
            tuple((name, None if value is None else bytes(value)) for name, value in record.headers),
        )
        for record in reader
    ]


def written_by_us(records: list[Record], codec: Compression) -> bytes:
    return encode_batch(records, compression=codec, producer_id=4711, producer_epoch=3, base_sequence=99)


@peers
@given(dated_record_lists)
def test_uncompressed_batches_are_the_same_bytes(peer: str, records: list[Record]) -> None:
    theirs, ours = (
        bytearray(written_by(peer, records, Compression.NONE)),
        bytearray(written_by_us(records, Compression.NONE)),
    )
    # The leader epoch is the broker's to set; what clients write there differs, and the CRC does not cover it.
    theirs[12:16] = ours[12:16] = bytes(4)
    assert ours == theirs


@peers
@codecs
@given(dated_record_lists)
def test_each_reads_what_the_other_wrote(peer: str, codec: Compression, records: list[Record]) -> None:
    expected = [record._replace(offset=offset) for offset, record in enumerate(records)]
    assert decode_records(written_by(peer, records, codec)) == expected
    assert read_by(peer, written_by_us(records, codec)) == expected


@peers
@codecs
def test_large_batches_are_read_both_ways(peer: str, codec: Compression) -> None:
    records = [Record(timestamp=index, key=b"key", value=b"value %d " % index * 30) for index in range(2000)]
    assert without_offsets(decode_records(written_by(peer, records, codec))) == records
    assert without_offsets(read_by(peer, written_by_us(records, codec))) == records


@peers
@codecs
def test_all_read_the_same_in_kafkas_own_batches(peer: str, codec: Compression) -> None:
    batch = JAVA[f"records_100_{codec.name.lower()}"]
    assert decode_records(batch) == read_by(peer, batch)
