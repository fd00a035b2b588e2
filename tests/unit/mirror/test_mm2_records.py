"""The records of MirrorMaker 2's topics, against bytes that Kafka's own classes wrote (connect-mirror 4.3.1)."""

import pytest

from ottla.client.types import TopicPartition
from ottla.core.errors import DecodeError
from ottla.mirror.core.mm2_records import Checkpoint, Heartbeat, OffsetSync

# What Heartbeat, Checkpoint and OffsetSync gave from recordKey() and recordValue().
RECORDED: list[tuple[Heartbeat | Checkpoint | OffsetSync, str, str]] = [
    (
        Heartbeat("primary", "zürich", 1764115200123),
        "00077072696d61727900077ac3bc72696368",
        "00000000019abd75b87b",
    ),
    (
        Checkpoint("billing", TopicPartition("primary.orders", 7), 123456789012, 123456780001, "mété"),
        "000762696c6c696e67000e7072696d6172792e6f726465727300000007",
        "00000000001cbe991a140000001cbe98f6e100066dc3a974c3a9",
    ),
    (
        Checkpoint("g", TopicPartition("t", 0), 0, 0, ""),
        "00016700017400000000",
        "0000000000000000000000000000000000000000",
    ),
    (
        OffsetSync(TopicPartition("orders", 3), 99, -1),
        "00066f726465727300000003",
        "0000000000000063ffffffffffffffff",
    ),
]


@pytest.mark.parametrize(("record", "key", "value"), RECORDED)
def test_bytes_are_those_of_kafkas_classes(record: Heartbeat | Checkpoint | OffsetSync, key: str, value: str) -> None:
    assert record.encode() == (bytes.fromhex(key), bytes.fromhex(value))
    assert type(record).decode(bytes.fromhex(key), bytes.fromhex(value)) == record


@pytest.mark.parametrize(("record", "key", "value"), RECORDED)
def test_bytes_that_are_cut_off_are_refused(record: Heartbeat | Checkpoint | OffsetSync, key: str, value: str) -> None:
    for cut_key, cut_value in ((key[:-2], value), (key, value[:-2]), ("", value), (key, "")):
        with pytest.raises(DecodeError):
            type(record).decode(bytes.fromhex(cut_key), bytes.fromhex(cut_value))


def test_other_versions_and_texts_that_are_none_are_refused() -> None:
    _, key, value = RECORDED[0]
    with pytest.raises(DecodeError, match="version 1"):
        Heartbeat.decode(bytes.fromhex(key), b"\0\1" + bytes.fromhex(value)[2:])
    with pytest.raises(DecodeError, match="no UTF-8"):
        Heartbeat.decode(b"\0\1\xff\0\0", bytes.fromhex(value))
    with pytest.raises(ValueError, match="32767"):
        Heartbeat("x" * 40_000, "b", 0).encode()
