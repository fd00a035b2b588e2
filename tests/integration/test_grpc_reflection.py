"""The gRPC door serves whoever has nothing but its reflected descriptors: no generated code of ours is used here."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from ottla.testing.cluster import Cluster


class Reflected:
    """Calls methods by name, with messages built from what the server says of itself."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self.channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> set[str]:
        return set(self._database.get_services())

    def call(self, service: str, method: str, **fields: Any) -> Any:
        return self._callable(service, method, self.channel.unary_unary)(**fields)

    def stream(self, service: str, method: str, **fields: Any) -> Any:
        return self._callable(service, method, self.channel.unary_stream)(**fields)

    def _callable(self, service: str, method: str, make: Any) -> Any:
        described = self._pool.FindServiceByName(service).FindMethodByName(method)
        request, response = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
        call = make(
            f"/{service}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return lambda **fields: call(request(**fields), timeout=10)


@pytest.fixture
def reflected(ottla_cluster: Cluster) -> Iterator[Reflected]:
    found = Reflected(ottla_cluster.grpc)
    yield found
    found.channel.close()


def test_the_services_describe_themselves(reflected: Reflected) -> None:
    assert reflected.services() >= {
        "ottla.v1.Produce",
        "ottla.v1.Fetch",
        "ottla.v1.Topics",
        "ottla.v1.Configs",
        "ottla.v1.Cluster",
        "grpc.health.v1.Health",
    }


def test_records_are_written_and_read(reflected: Reflected, ottla_topic: str) -> None:
    created = reflected.call("ottla.v1.Topics", "CreateTopics", topics=[{"name": ottla_topic, "num_partitions": 1}])
    assert not created.topics[0].HasField("error")
    records = [
        {"key": b"k", "value": b"v", "headers": [{"key": "h", "value": b"1"}], "timestamp_ms": 1234},
        {"key": b"tombstone"},
    ]
    produced = reflected.call(
        "ottla.v1.Produce", "Produce", partitions=[{"topic": ottla_topic, "records": {"records": records}}]
    )
    assert not produced.partitions[0].HasField("error")
    assert produced.partitions[0].base_offset == 0

    fetched = reflected.call("ottla.v1.Fetch", "Fetch", max_wait_ms=1000, partitions=[{"topic": ottla_topic}])
    first, second = fetched.partitions[0].records
    assert (first.key, first.value, first.timestamp_ms, first.offset) == (b"k", b"v", 1234, 0)
    assert [(header.key, header.value) for header in first.headers] == [("h", b"1")]
    assert (second.key, second.HasField("value"), second.offset) == (b"tombstone", False, 1)
    assert fetched.partitions[0].next_offset == 2


def test_a_stream_goes_on_with_what_comes(reflected: Reflected, ottla_topic: str) -> None:
    reflected.call("ottla.v1.Topics", "CreateTopics", topics=[{"name": ottla_topic, "num_partitions": 1}])

    def produce(value: bytes) -> None:
        partition = {"topic": ottla_topic, "records": {"records": [{"value": value}]}}
        answer = reflected.call("ottla.v1.Produce", "Produce", partitions=[partition])
        assert not answer.partitions[0].HasField("error")

    produce(b"a")
    stream = reflected.stream("ottla.v1.Fetch", "FetchStream", partitions=[{"topic": ottla_topic}])
    assert [record.value for record in next(stream).partitions[0].records] == [b"a"]
    produce(b"b")
    assert [record.value for record in next(stream).partitions[0].records] == [b"b"]
    stream.cancel()
