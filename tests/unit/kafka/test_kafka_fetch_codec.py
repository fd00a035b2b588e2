"""The hand-written Fetch codec against the generated one."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.broker.fetch_messages import FetchedPartition, FetchResponse
from ottla.broker.leader_hints import CurrentLeader
from ottla.controller.image import Endpoint
from ottla.core.errors import DecodeError, ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.kafka.fetch_codec import MAX_VERSION, MIN_VERSION, decode_request, encode_response
from ottla.protocol.messages import fetch_request as requests
from ottla.protocol.messages import fetch_response as responses

VERSIONS = range(MIN_VERSION, MAX_VERSION + 1)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=60)
ids = st.binary(min_size=16, max_size=16).map(Uuid)


@st.composite
def messages(draw: st.DrawFn, version: int) -> requests.FetchRequest:
    topics = [
        requests.FetchTopic(
            topic=draw(names),
            topic_id=draw(ids),
            partitions=[
                requests.FetchPartition(
                    partition=draw(int32),
                    current_leader_epoch=draw(int32),
                    fetch_offset=draw(int64),
                    last_fetched_epoch=-1,
                    log_start_offset=draw(int64),
                    partition_max_bytes=draw(int32),
                    replica_directory_id=draw(ids),
                )
                for _ in range(draw(st.integers(0, 3)))
            ],
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    message = requests.FetchRequest(
        cluster_id=draw(st.none() | names) if version >= 12 else None,
        max_wait_ms=draw(int32),
        min_bytes=draw(int32),
        max_bytes=draw(int32),
        isolation_level=draw(st.integers(0, 1)),
        topics=topics,
    )
    if version >= 7:
        message.session_id, message.session_epoch = draw(int32), draw(int32)
        message.forgotten_topics_data = [
            requests.ForgottenTopic(topic=draw(names), topic_id=draw(ids), partitions=draw(st.lists(int32, max_size=4)))
            for _ in range(draw(st.integers(0, 2)))
        ]
    if version >= 11:
        message.rack_id = draw(names)
    return message


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), garbage=st.binary(max_size=5))
def test_requests_are_read_as_the_generated_codec_writes_them(
    version: int, data: st.DataObject, garbage: bytes
) -> None:
    message = data.draw(messages(version))
    request = decode_request(bytearray(b"head" + message.encode(version) + garbage), 4, version)
    assert (request.max_wait_ms, request.min_bytes, request.max_bytes, request.isolation) == (
        message.max_wait_ms,
        message.min_bytes,
        message.max_bytes,
        message.isolation_level,
    )
    assert (request.session_id, request.session_epoch) == (message.session_id, message.session_epoch)
    assert request.allows_zstd == (version >= 10)
    assert request.rack == (message.rack_id if version >= 11 else None)
    assert [(p.topic, p.index, p.fetch_offset, p.max_bytes, p.current_leader_epoch) for p in request.partitions] == [
        (
            topic.topic if version < 13 else topic.topic_id,
            p.partition,
            p.fetch_offset,
            p.partition_max_bytes,
            p.current_leader_epoch if version >= 9 else -1,
        )
        for topic in message.topics
        for p in topic.partitions
    ]
    assert request.forgotten == [
        (topic.topic if version < 13 else topic.topic_id, index)
        for topic in message.forgotten_topics_data
        for index in topic.partitions
    ]


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_truncated_request_is_a_decode_error(version: int, data: st.DataObject) -> None:
    frame = data.draw(messages(version)).encode(version)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(DecodeError):
        decode_request(frame[:cut], 0, version)


@settings(max_examples=300, deadline=None)
@given(version=st.sampled_from(VERSIONS), frame=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_decode_errors(version: int, frame: bytes) -> None:
    with suppress(DecodeError):
        decode_request(frame, 0, version)


def test_an_unknown_isolation_level_is_refused() -> None:
    with pytest.raises(DecodeError, match="isolation"):
        decode_request(requests.FetchRequest(isolation_level=2).encode(11), 0, 11)


def fetched(topic: str | Uuid, index: int, *buffers: bytes, error: ErrorCode = ErrorCode.NONE) -> FetchedPartition:
    partition = FetchedPartition(topic, index, error)
    if not error:
        partition.high_watermark, partition.last_stable_offset, partition.log_start_offset = 2**40, 2**39, 7
    partition.buffers = list(buffers)
    partition.size = sum(map(len, buffers))
    return partition


@pytest.mark.parametrize("version", VERSIONS)
def test_responses_are_what_the_generated_codec_reads(version: int) -> None:
    one: str | Uuid = "öne" if version < 13 else Uuid(b"1" * 16)
    two: str | Uuid = "two" if version < 13 else Uuid(b"2" * 16)
    committed = fetched(one, 1, b"b" * 200)
    committed.aborted = [(4, 5), (6, 7)]
    large = b"c" * 100_000
    response = FetchResponse(
        [
            fetched(one, 0, b"a", b"aa"),
            committed,
            fetched(two, 0, error=ErrorCode.OFFSET_OUT_OF_RANGE),
            fetched(two, 5, large),
            fetched(one, 2),
        ],
        session_id=99,
    )
    buffers = encode_response(bytearray(b"header"), response, version)
    assert any(buffer is large for buffer in buffers)
    data = b"".join(buffers)
    assert data.startswith(b"header")
    read, end = responses.FetchResponse.decode(data, version, 6)
    assert end == len(data)
    assert read.session_id == (99 if version >= 7 else 0)
    topics = [(topic.topic_id if version >= 13 else topic.topic, topic.partitions) for topic in read.responses]
    assert [(topic, [p.partition_index for p in partitions]) for topic, partitions in topics] == [
        (one, [0, 1]),
        (two, [0, 5]),
        (one, [2]),
    ]
    flat = [p for _, partitions in topics for p in partitions]
    assert [bytes(p.records or b"") for p in flat] == [b"aaa", b"b" * 200, b"", large, b""]
    assert [p.error_code for p in flat] == [0, 0, ErrorCode.OFFSET_OUT_OF_RANGE, 0, 0]
    assert (flat[0].high_watermark, flat[0].last_stable_offset) == (2**40, 2**39)
    assert flat[0].log_start_offset == (7 if version >= 5 else -1)
    assert flat[0].aborted_transactions is None
    assert [(a.producer_id, a.first_offset) for a in flat[1].aborted_transactions or []] == [(4, 5), (6, 7)]
    assert all(p.preferred_read_replica == -1 for p in flat)


def test_a_session_error_stands_at_the_top() -> None:
    response = FetchResponse([], error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND, session_id=5)
    read, _ = responses.FetchResponse.decode(b"".join(encode_response(bytearray(), response, 12)), 12)
    assert (read.error_code, read.session_id, read.responses) == (ErrorCode.FETCH_SESSION_ID_NOT_FOUND, 5, [])


@pytest.mark.parametrize("version", VERSIONS)
def test_who_asks_the_wrong_node_is_told_the_leader(version: int) -> None:
    topic: str | Uuid = "t" if version < 13 else Uuid(b"1" * 16)
    errors = [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.UNKNOWN_LEADER_EPOCH]
    leader = CurrentLeader(NodeId(3), 7, Endpoint("nearer", 9093))
    partitions = [fetched(topic, n, error=error) for n, error in enumerate(errors)]
    partitions.append(fetched(topic, 3, b"records"))
    partitions[3].preferred_replica = 5
    body = b"".join(encode_response(bytearray(), FetchResponse(partitions), version, lambda *_: leader))
    read, end = responses.FetchResponse.decode(body, version)
    assert end == len(body)
    parts = read.responses[0].partitions
    told = [(p.current_leader.leader_id, p.current_leader.leader_epoch) for p in parts]
    endpoints = [(e.node_id, e.host, e.port, e.rack) for e in read.node_endpoints]
    assert told == ([(3, 7), (3, 7)] if version >= 16 else [(-1, -1)] * 2) + [(-1, -1)] * 2
    assert endpoints == ([(3, "nearer", 9093, None)] if version >= 16 else [])
    assert [p.preferred_read_replica for p in parts] == [-1, -1, -1, 5 if version >= 11 else -1]
