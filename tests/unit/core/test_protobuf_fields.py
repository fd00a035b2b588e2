"""Large fields put into protobuf messages and taken out of them by hand: protobuf itself must agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.protobuf_fields import field_head, split_field
from ottla.v1 import fetch_pb2

BATCHES = fetch_pb2.FetchPartitionResult.DESCRIPTOR.fields_by_name["batches"].number
PARTITIONS = fetch_pb2.FetchResponse.DESCRIPTOR.fields_by_name["partitions"].number

results = st.builds(
    fetch_pb2.FetchPartitionResult,
    topic=st.text(max_size=5),
    partition=st.integers(0, 2**31 - 1),
    high_watermark=st.integers(-1, 2**63 - 1),
    batches=st.binary(max_size=300),
    aborted_transactions=st.lists(
        st.builds(fetch_pb2.AbortedTransaction, producer_id=st.integers(0, 99), first_offset=st.integers(0, 99)),
        max_size=2,
    ),
)


@given(results)
def test_a_field_that_is_put_behind_the_rest_is_read_by_protobuf(result: fetch_pb2.FetchPartitionResult) -> None:
    batches = result.batches
    rest = fetch_pb2.FetchPartitionResult()
    rest.CopyFrom(result)
    rest.ClearField("batches")
    encoded = rest.SerializeToString() + field_head(BATCHES, len(batches)) + batches
    assert fetch_pb2.FetchPartitionResult.FromString(encoded) == result


@given(st.lists(results, max_size=3))
def test_what_protobuf_wrote_is_taken_apart(several: list[fetch_pb2.FetchPartitionResult]) -> None:
    encoded = fetch_pb2.FetchResponse(partitions=several).SerializeToString()
    outer = split_field(encoded, PARTITIONS)
    assert outer.rest == b""
    assert len(outer.found) == len(several)
    for message, expected in zip(outer.found, several, strict=True):
        inner = split_field(message, BATCHES)
        assert b"".join(inner.found) == expected.batches
        found = fetch_pb2.FetchPartitionResult.FromString(inner.rest)
        assert found.batches == b""
        found.batches = expected.batches
        assert found == expected


@given(st.binary(max_size=40))
def test_what_is_no_protobuf_is_refused_and_nothing_else_happens(data: bytes) -> None:
    try:
        split = split_field(data, BATCHES)
    except ValueError:
        return
    assert len(split.rest) + sum(map(len, split.found)) <= len(data)


@pytest.mark.parametrize("data", [b"\x42", b"\x42\x05abc", b"\x08", b"\x09abc", b"\x0d123", b"\x0b", b"\x80" * 11])
def test_a_message_that_is_cut_off_or_of_an_unknown_kind_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|wire type"):
        split_field(data, BATCHES)
