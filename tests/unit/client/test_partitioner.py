"""Keys go where Java's client puts them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from ottla.client.partitioner import StickyPartitioner, murmur2, partition_for_key


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_values_of_javas_client(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@given(st.binary(max_size=64))
def test_murmur2_agrees_with_kafka_python(key: bytes) -> None:
    assert murmur2(key) == kafka_python_murmur2(key)


@given(st.binary(max_size=32), st.integers(1, 1000))
def test_a_key_has_one_partition_in_range(key: bytes, count: int) -> None:
    assert partition_for_key(key, count) == (murmur2(key) & 0x7FFFFFFF) % count


def test_records_without_a_key_stick_to_a_partition_until_its_batch_is_closed() -> None:
    sticky = StickyPartitioner(random.Random(1).choice)
    available = (0, 1, 2)
    first = sticky.partition("t", available)
    assert {sticky.partition("t", available) for _ in range(10)} == {first}
    sticky.batch_closed("t", first, available)
    assert sticky.partition("t", available) != first


def test_the_sticky_partition_changes_when_it_loses_its_leader() -> None:
    sticky = StickyPartitioner(random.Random(1).choice)
    first = sticky.partition("t", (0, 1, 2))
    left = tuple(partition for partition in (0, 1, 2) if partition != first)
    assert sticky.partition("t", left) in left


def test_with_one_partition_there_is_no_other() -> None:
    sticky = StickyPartitioner(random.Random(1).choice)
    sticky.batch_closed("t", sticky.partition("t", (0,)), (0,))
    assert sticky.partition("t", (0,)) == 0
