"""The gRPC door with generated stubs: health, typed errors, streams, limits."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ottla.records.batch import Compression, Record, encode_batch
from ottla.testing.cluster import Cluster
from ottla.v1 import (
    configs_pb2,
    configs_pb2_grpc,
    errors_pb2,
    fetch_pb2,
    fetch_pb2_grpc,
    produce_pb2,
    produce_pb2_grpc,
    records_pb2,
    topics_pb2,
    topics_pb2_grpc,
    transactions_pb2,
    transactions_pb2_grpc,
)

UNKNOWN_TOPIC_OR_PARTITION = 3
INVALID_RECORD = 87
OUT_OF_RANGE = transactions_pb2.TransactionalProducer(transactional_id="x", producer_id=7, producer_epoch=70_000)
TOO_LONG = transactions_pb2.TransactionalProducer(transactional_id="x" * 40_000, producer_id=7)


@pytest.fixture
def channel(ottla_cluster: Cluster) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(ottla_cluster.grpc) as found:
        yield found


@pytest.fixture
def topic(channel: grpc.Channel, ottla_topic: str) -> str:
    new = topics_pb2.NewTopic(name=ottla_topic, num_partitions=2)
    answer = topics_pb2_grpc.TopicsStub(channel).CreateTopics(topics_pb2.CreateTopicsRequest(topics=[new]), timeout=10)
    assert not answer.topics[0].HasField("error")
    return ottla_topic


def batch(*values: bytes, compression: Compression = Compression.NONE) -> bytes:
    return encode_batch([Record(0, 1, None, value) for value in values], compression=compression)


def produce(
    channel: grpc.Channel,
    *partitions: produce_pb2.ProducePartition,
    acks: produce_pb2.Acks.ValueType = produce_pb2.ACKS_ALL,
) -> list[produce_pb2.ProducePartitionResult]:
    request = produce_pb2.ProduceRequest(partitions=partitions, acks=acks, request_id=7)
    answer = produce_pb2_grpc.ProduceStub(channel).Produce(request, timeout=10)
    assert answer.request_id == 7
    return list(answer.partitions)


def fetch(
    channel: grpc.Channel, topic: str, offset: int = 0, *, max_wait_ms: int = 500, **fields: object
) -> fetch_pb2.FetchPartitionResult:
    request = fetch_pb2.FetchRequest(
        max_wait_ms=max_wait_ms,
        partitions=[fetch_pb2.FetchPartition(topic=topic, fetch_offset=offset)],
        **fields,  # type: ignore[arg-type]
    )
    [result] = fetch_pb2_grpc.FetchStub(channel).Fetch(request, timeout=10).partitions
    return result


@pytest.mark.parametrize("service", ["", "ottla.v1.Produce", "ottla.v1.Fetch"])
def test_health_checks_are_answered(channel: grpc.Channel, service: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_batches_go_in_and_come_out_as_they_are(channel: grpc.Channel, topic: str) -> None:
    sent = batch(b"a", b"b", compression=Compression.GZIP)
    [result] = produce(channel, produce_pb2.ProducePartition(topic=topic, batch=sent))
    assert (result.base_offset, result.HasField("error")) == (0, False)
    found = fetch(channel, topic, format=fetch_pb2.RECORD_FORMAT_BATCHES)
    assert found.batches[16:] == sent[16:]
    assert (found.next_offset, found.high_watermark) == (2, 2)


def test_each_partition_tells_its_own_error(channel: grpc.Channel, topic: str) -> None:
    good, unknown, damaged, empty = produce(
        channel,
        produce_pb2.ProducePartition(topic=topic, partition=0, batch=batch(b"good")),
        produce_pb2.ProducePartition(topic="never-created", partition=0, batch=batch(b"x")),
        produce_pb2.ProducePartition(topic=topic, partition=1, batch=batch(b"x")[:-1] + b"\xff"),
        produce_pb2.ProducePartition(topic=topic, partition=1, records=records_pb2.RecordSet()),
    )
    assert not good.HasField("error")
    assert (unknown.error.code, unknown.error.name) == (UNKNOWN_TOPIC_OR_PARTITION, "UNKNOWN_TOPIC_OR_PARTITION")
    assert (unknown.error.topic, unknown.error.partition, unknown.error.retriable) == ("never-created", 0, True)
    assert (damaged.error.code, damaged.base_offset) == (2, -1)
    assert (empty.error.code, empty.error.retriable) == (INVALID_RECORD, False)


def test_a_call_that_fails_as_a_whole_carries_the_typed_detail(channel: grpc.Channel) -> None:
    wanted = configs_pb2.DescribeConfigsResource(resource=configs_pb2.ConfigResource(name="x"))
    with pytest.raises(grpc.RpcError) as caught:
        configs_pb2_grpc.ConfigsStub(channel).DescribeConfigs(
            configs_pb2.DescribeConfigsRequest(resources=[wanted]), timeout=10
        )
    error: Any = caught.value  # it is a grpc.Call as well, which types-grpcio does not know
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailing = dict(error.trailing_metadata() or ())
    packed = trailing["grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    status = errors_pb2.StatusDetails.FromString(packed)
    detail = errors_pb2.ErrorDetail()
    assert status.details[0].Unpack(detail)
    assert (detail.name, detail.retriable) == ("INVALID_REQUEST", False)
    assert "RESOURCE_TYPE_TOPIC" in detail.message


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("EndTransaction", transactions_pb2.EndTransactionRequest(producer=OUT_OF_RANGE)),
        ("AddOffsets", transactions_pb2.AddOffsetsRequest(producer=OUT_OF_RANGE, group_id="g")),
        ("CommitOffsets", transactions_pb2.TransactionalOffsetsRequest(producer=OUT_OF_RANGE, group_id="g")),
        ("AbortPartition", transactions_pb2.AbortPartitionRequest(producer_id=7, producer_epoch=-40_000)),
        ("AddOffsets", transactions_pb2.AddOffsetsRequest(producer=TOO_LONG, group_id="g")),
        ("CommitOffsets", transactions_pb2.TransactionalOffsetsRequest(producer=TOO_LONG, group_id="g")),
    ],
)
def test_what_kafkas_fields_do_not_hold_is_refused_by_name(channel: grpc.Channel, method: str, request_: Any) -> None:
    """It would be found out where it travels on to another node, or becomes a record."""
    with pytest.raises(grpc.RpcError) as caught:
        getattr(transactions_pb2_grpc.TransactionsStub(channel), method)(request_, timeout=10)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(r"(producer_epoch: .* is not between|transactional_id: .* bytes of text)", error.details())


def test_a_stream_answers_each_request_by_its_id(channel: grpc.Channel, topic: str) -> None:
    requests = [
        produce_pb2.ProduceRequest(
            request_id=number,
            partitions=[produce_pb2.ProducePartition(topic=topic, batch=batch(b"%d" % number))],
        )
        for number in range(300)
    ]
    answers = list(produce_pb2_grpc.ProduceStub(channel).ProduceStream(iter(requests), timeout=20))
    offsets = {answer.request_id: answer.partitions[0].base_offset for answer in answers}
    assert offsets == {number: number for number in range(300)}


def test_without_acks_a_stream_says_nothing_and_appends(channel: grpc.Channel, topic: str) -> None:
    requests = [
        produce_pb2.ProduceRequest(
            request_id=number,
            acks=produce_pb2.ACKS_NONE,
            partitions=[produce_pb2.ProducePartition(topic=topic, batch=batch(b"x"))],
        )
        for number in range(10)
    ]
    assert list(produce_pb2_grpc.ProduceStub(channel).ProduceStream(iter(requests), timeout=20)) == []
    assert produce(channel, produce_pb2.ProducePartition(topic=topic, batch=batch(b"last")))[0].base_offset == 10


def test_a_bad_request_in_a_stream_harms_no_other(channel: grpc.Channel, topic: str) -> None:
    good = [produce_pb2.ProducePartition(topic=topic, batch=batch(b"x"))]
    requests = [
        produce_pb2.ProduceRequest(request_id=1, acks=9, partitions=good),  # type: ignore[arg-type]
        produce_pb2.ProduceRequest(request_id=2, partitions=good),
    ]
    answers = {it.request_id: it for it in produce_pb2_grpc.ProduceStub(channel).ProduceStream(iter(requests))}
    assert answers[1].error.name == "INVALID_REQUIRED_ACKS"
    assert answers[2].partitions[0].base_offset == 0


def test_reading_past_the_end_is_an_error_of_that_partition(channel: grpc.Channel, topic: str) -> None:
    found = fetch(channel, topic, offset=5)
    assert (found.error.name, found.error.topic, found.next_offset) == ("OFFSET_OUT_OF_RANGE", topic, 5)


def test_reading_starts_within_a_batch(channel: grpc.Channel, topic: str) -> None:
    produce(channel, produce_pb2.ProducePartition(topic=topic, batch=batch(b"a", b"b", b"c")))
    assert [record.value for record in fetch(channel, topic, offset=1).records] == [b"b", b"c"]


def test_idempotent_records_are_appended_once(channel: grpc.Channel, topic: str) -> None:
    granted = produce_pb2_grpc.ProduceStub(channel).InitProducerId(produce_pb2.InitProducerIdRequest(), timeout=10)
    sequence = records_pb2.ProducerSequence(
        producer_id=granted.producer_id, producer_epoch=granted.producer_epoch, base_sequence=0
    )
    records = records_pb2.RecordSet(records=[records_pb2.Record(value=b"once")], producer=sequence)
    partition = produce_pb2.ProducePartition(topic=topic, records=records)
    assert [produce(channel, partition)[0].base_offset for _ in range(2)] == [0, 0]
    assert fetch(channel, topic).high_watermark == 1


def test_structured_records_beyond_the_limit_are_refused_with_what_to_do(channel: grpc.Channel, topic: str) -> None:
    records = records_pb2.RecordSet(records=[records_pb2.Record(value=bytes(1 << 20))] * 5)
    [result] = produce(channel, produce_pb2.ProducePartition(topic=topic, records=records))
    assert result.error.name == "MESSAGE_TOO_LARGE"
    assert "send fewer, or a batch" in result.error.message


def test_a_number_that_the_batch_has_no_room_for_is_refused(channel: grpc.Channel, topic: str) -> None:
    sequence = records_pb2.ProducerSequence(producer_id=1, producer_epoch=70_000, base_sequence=0)
    records = records_pb2.RecordSet(records=[records_pb2.Record(value=b"x")], producer=sequence)
    assert produce(channel, produce_pb2.ProducePartition(topic=topic, records=records))[0].error.code == INVALID_RECORD


def test_offsets_are_found_by_time_and_at_both_ends(channel: grpc.Channel, topic: str) -> None:
    data = encode_batch([Record(0, time, None, b"x") for time in (100, 200, 300)])
    produce(channel, produce_pb2.ProducePartition(topic=topic, batch=data))
    wanted = [fetch_pb2.ListOffsetsPartition(topic=topic, timestamp_ms=time) for time in (-2, -1, 150, 301)]
    stub = fetch_pb2_grpc.FetchStub(channel)
    found = [
        stub.ListOffsets(fetch_pb2.ListOffsetsRequest(partitions=[one]), timeout=10).partitions[0] for one in wanted
    ]
    assert [(one.offset, one.timestamp_ms) for one in found] == [(0, -1), (3, -1), (1, 200), (-1, -1)]


def test_a_request_beyond_the_message_limit_is_refused_and_the_next_is_served(
    channel: grpc.Channel, topic: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        produce(channel, produce_pb2.ProducePartition(topic=topic, batch=bytes(101 << 20)))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert produce(channel, produce_pb2.ProducePartition(topic=topic, batch=batch(b"x")))[0].base_offset == 0
