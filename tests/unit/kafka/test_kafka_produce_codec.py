"""The hand-written Produce codec against the generated one."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.broker.leader_hints import CurrentLeader
from ottla.broker.produce import ProducedPartition, ProducedTopics, ProduceRequest, _Pending
from ottla.controller.image import Endpoint
from ottla.core.errors import DecodeError, ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.kafka.produce_codec import MAX_VERSION, MIN_VERSION, decode_request, encode_response
from ottla.protocol.messages import produce_request as requests
from ottla.protocol.messages.produce_response import ProduceResponse

VERSIONS = range(MIN_VERSION, MAX_VERSION + 1)

names = st.text(max_size=200)
records = st.none() | st.binary(max_size=300)
partitions = st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), records), max_size=4)


@st.composite
def messages(draw: st.DrawFn) -> requests.ProduceRequest:
    return requests.ProduceRequest(
        transactional_id=draw(st.none() | names),
        acks=draw(st.integers(-(2**15), 2**15 - 1)),
        timeout_ms=draw(st.integers(-(2**31), 2**31 - 1)),
        topic_data=[
            requests.TopicProduceData(
                name=draw(names),
                topic_id=Uuid(draw(st.binary(min_size=16, max_size=16))),
                partition_data=[requests.PartitionProduceData(index=n, records=data) for n, data in draw(partitions)],
            )
            for _ in range(draw(st.integers(0, 3)))
        ],
    )


def flat(request: ProduceRequest) -> list[object]:
    return [
        (topic, [(index, None if batch is None else bytes(batch)) for index, batch in batches])
        for topic, batches in request.topics
    ]


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=25, deadline=None)
@given(message=messages(), garbage=st.binary(max_size=5))
def test_requests_are_read_as_the_generated_codec_writes_them(
    version: int, message: requests.ProduceRequest, garbage: bytes
) -> None:
    frame = bytearray(b"head" + message.encode(version) + garbage)
    request = decode_request(frame, 4, version)
    assert (request.acks, request.timeout_ms) == (message.acks, message.timeout_ms)
    assert request.transactional_id == message.transactional_id
    assert request.allows_zstd == (version >= 7)
    assert (request.knows_abortable, request.adds_partitions) == (version >= 11, version >= 12)
    assert flat(request) == [
        (
            topic.name if version < 13 else topic.topic_id,
            [(p.index, None if p.records is None else bytes(p.records)) for p in topic.partition_data],
        )
        for topic in message.topic_data
    ]


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=25, deadline=None)
@given(message=messages(), data=st.data())
def test_a_truncated_request_is_a_decode_error(
    version: int, message: requests.ProduceRequest, data: st.DataObject
) -> None:
    frame = message.encode(version)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(DecodeError):
        decode_request(bytearray(frame[:cut]), 0, version)


@settings(max_examples=300, deadline=None)
@given(version=st.sampled_from(VERSIONS), frame=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_decode_errors(version: int, frame: bytes) -> None:
    with suppress(DecodeError):
        decode_request(bytearray(frame), 0, version)


def test_unknown_tagged_fields_are_skipped() -> None:
    message = requests.ProduceRequest(
        acks=1,
        topic_data=[requests.TopicProduceData(name="t", partition_data=[requests.PartitionProduceData(index=7)])],
    )
    plain = message.encode(9)
    assert plain.endswith(b"\0\0\0\0")  # no records; tags of the partition, the topic, the request
    tagged = plain[:-3] + b"\x01\x05\x02ab" + b"\x02\x00\x00\x07\x01x" + b"\x01\x63\x00"
    assert flat(decode_request(bytearray(tagged), 0, 9)) == [("t", [(7, None)])]


def test_a_compact_string_has_no_more_bytes_than_one_behind_two_bytes_of_length() -> None:
    """Beyond that a transactional id could not travel on to its coordinator."""
    too_long = bytearray(b"\x81\x80\x02" + b"x" * 32_768 + b"\0\1" + bytes(4) + b"\1\0")
    with pytest.raises(DecodeError, match="string: length 32768"):
        decode_request(too_long, 0, 9)
    longest = bytearray(b"\x80\x80\x02" + b"x" * 32_767 + b"\0\1" + bytes(4) + b"\1\0")
    assert decode_request(longest, 0, 9).transactional_id == "x" * 32_767


def test_batches_are_views_of_the_frame() -> None:
    message = requests.ProduceRequest(
        topic_data=[
            requests.TopicProduceData(
                name="t", partition_data=[requests.PartitionProduceData(index=0, records=b"batch")]
            )
        ]
    )
    frame = bytearray(message.encode(9))
    [(_, [(_, view)])] = decode_request(frame, 0, 9).topics
    assert view is not None
    view[0:1] = b"B"
    assert b"Batch" in frame


def outcome(topic: str | Uuid, *errors: tuple[ErrorCode, str | None]) -> ProducedTopics:
    produced = []
    for index, (error, message) in enumerate(errors):
        one = ProducedPartition(index, _Pending(lambda _: None))
        one.base_offset, one.log_append_time_ms, one.log_start_offset = 2**40 + index, 5, 3
        if error:
            one.refuse(error, message)
        produced.append(one)
    return [(topic, produced)]


@pytest.mark.parametrize("version", VERSIONS)
def test_responses_are_what_the_generated_codec_reads(version: int) -> None:
    topic: str | Uuid = "töpic" if version < 13 else Uuid(bytes(range(16)))
    topics = outcome(topic, (ErrorCode.NONE, None), (ErrorCode.INVALID_RECORD, "no key"), (ErrorCode.NONE, None))
    out = bytearray()
    encode_response(out, topics, version)
    response, end = ProduceResponse.decode(bytes(out), version)
    assert end == len(out)
    [told] = response.responses
    assert told.topic_id == topic if version >= 13 else told.name == topic
    assert [(p.index, p.error_code, p.base_offset) for p in told.partition_responses] == [
        (0, 0, 2**40),
        (1, ErrorCode.INVALID_RECORD, -1),
        (2, 0, 2**40 + 2),
    ]
    first, failed, _ = told.partition_responses
    assert first.log_append_time_ms == 5
    assert first.log_start_offset == (3 if version >= 5 else -1)
    assert failed.error_message == ("no key" if version >= 8 else None)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_asks_the_wrong_node_is_told_the_leader(version: int) -> None:
    topic: str | Uuid = "t" if version < 13 else Uuid(bytes(range(16)))
    leader = CurrentLeader(NodeId(3), 7, Endpoint("näher", 9093), "r1")
    nowhere = CurrentLeader(NodeId(4), 8)
    errors = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NONE, ErrorCode.INVALID_RECORD)
    topics = outcome(topic, *((error, None) for error in (*errors, errors[0], errors[0], errors[0])))
    known = {0: leader, 3: leader, 4: nowhere}
    out = bytearray()
    encode_response(out, topics, version, lambda _, index: known.get(index))
    response, end = ProduceResponse.decode(bytes(out), version)
    assert end == len(out)
    told = [
        (p.current_leader.leader_id, p.current_leader.leader_epoch) for p in response.responses[0].partition_responses
    ]
    endpoints = [(e.node_id, e.host, e.port, e.rack) for e in response.node_endpoints]
    if version >= 10:
        assert told == [(3, 7), (-1, -1), (-1, -1), (3, 7), (4, 8), (-1, -1)]
        assert endpoints == [(3, "näher", 9093, "r1")]
    else:
        assert set(told) == {(-1, -1)}
        assert not endpoints
