"""What the generated messages promise, shown on a few of them; exact bytes that other implementations write."""

from random import Random

import pytest

from ottla.core.errors import DecodeError, EncodeError
from ottla.core.types import Uuid, parse_uuid
from ottla.protocol.message import Message
from ottla.protocol.messages.api_versions_request import ApiVersionsRequest
from ottla.protocol.messages.api_versions_response import ApiVersion, ApiVersionsResponse
from ottla.protocol.messages.consumer_group_heartbeat_response import Assignment, ConsumerGroupHeartbeatResponse
from ottla.protocol.messages.consumer_group_member_metadata_value import (
    ClassicMemberMetadata,
    ConsumerGroupMemberMetadataValue,
)
from ottla.protocol.messages.delete_topics_request import DeleteTopicsRequest
from ottla.protocol.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic, ReplicaState
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.offset_commit_key import OffsetCommitKey
from ottla.protocol.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_commit_value import OffsetCommitValue
from ottla.protocol.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.protocol.messages.sasl_authenticate_request import SaslAuthenticateRequest
from ottla.protocol.messages.transaction_log_value import TransactionLogValue
from tests.unit.protocol.protocol_samples import MESSAGES, Sampler, message_class
from tools.protocol.model import MessageDefinition

GOLDEN = [
    (ApiVersionsRequest(), 0, ""),
    (
        ApiVersionsRequest(client_software_name="librdkafka", client_software_version="2.6.0"),
        3,
        "0b 6c696272646b61666b61 06 322e362e30 00",
    ),
    (
        ApiVersionsResponse(error_code=35, api_keys=[ApiVersion(api_key=18, max_version=4)]),
        0,
        "0023 00000001 0012 0000 0004",
    ),
    (
        ApiVersionsResponse(api_keys=[ApiVersion(api_key=18, max_version=4)], finalized_features_epoch=1),
        3,
        "0000 02 0012 0000 0004 00 00000000 01 01 08 0000000000000001",
    ),
    (MetadataRequest(topics=None), 1, "ffffffff"),
    (MetadataRequest(topics=[MetadataRequestTopic(name="t")]), 4, "00000001 0001 74 01"),
    (
        MetadataRequest(topics=[MetadataRequestTopic(topic_id=Uuid(bytes(range(16))), name=None)]),
        12,
        "02 000102030405060708090a0b0c0d0e0f 00 00 01 00 00",
    ),
    (HeartbeatRequest(group_id="g", generation_id=1, member_id="m"), 0, "0001 67 00000001 0001 6d"),
    (HeartbeatRequest(group_id="g", generation_id=1, member_id="m"), 4, "02 67 00000001 02 6d 00 00"),
    (OffsetCommitKey(group="g", topic="t", partition=3), 0, "0001 67 0001 74 00000003"),
    (OffsetCommitValue(offset=5, commit_timestamp=9), 3, "0000000000000005 ffffffff 0000 0000000000000009"),
    (ConsumerGroupHeartbeatResponse(member_id=None), 0, "00000000 0000 00 00 00000000 00000000 ff 00"),
    (
        ConsumerGroupHeartbeatResponse(member_id="m", assignment=Assignment()),
        0,
        "00000000 0000 00 02 6d 00000000 00000000 01 01 00 00",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "version", "expected"), GOLDEN, ids=lambda one: type(one).__name__)
def test_golden_bytes(message: Message, version: int, expected: str) -> None:
    encoded = bytes.fromhex(expected)
    assert message.encode(version).hex(" ") == encoded.hex(" ")
    assert type(message).decode(encoded, version) == (message, len(encoded))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: one.name)
def test_round_trip_over_the_whole_range_of_values(message: MessageDefinition) -> None:
    cls, sampler = message_class(message), Sampler(Random(message.name))
    for version in range(cls.MIN_VERSION, cls.MAX_VERSION + 1):
        for _ in range(5):
            sample = sampler.message(message, version)
            encoded = sample.encode(version)
            assert cls.decode(b"ab" + encoded + b"cd", version, 2) == (sample, len(encoded) + 2)
            assert cls.decode(memoryview(bytearray(encoded)), version) == (sample, len(encoded))


def test_decoded_message_outlives_its_buffer() -> None:
    topic = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=b"batch")])
    buffer = bytearray(ProduceRequest(topic_data=[topic]).encode(9))
    message, _ = ProduceRequest.decode(memoryview(buffer), 9)
    buffer[:] = bytes(len(buffer))
    assert message.topic_data[0].name == "t"
    assert bytes(message.topic_data[0].partition_data[0].records or b"") == b"batch"


def test_fields_that_a_version_lacks_keep_their_defaults() -> None:
    request = FetchRequest(session_id=9, rack_id="r", topics=[FetchTopic(topic="t")])
    decoded, _ = FetchRequest.decode(request.encode(4), 4)
    assert (decoded.session_id, decoded.session_epoch, decoded.rack_id) == (0, -1, "")
    assert decoded.replica_state == ReplicaState()


def test_lists_of_two_messages_are_not_shared() -> None:
    first, second = FetchRequest(), FetchRequest()
    first.topics.append(FetchTopic())
    assert second.topics == []
    first.replica_state.replica_id = 5
    assert second.replica_state.replica_id == -1


def test_tagged_fields_are_written_when_they_differ_from_their_default() -> None:
    plain = TransactionLogValue(producer_id=1).encode(1)
    tagged = TransactionLogValue(producer_id=1, next_producer_epoch=2).encode(1)
    assert plain[-1] == 0
    assert tagged == plain[:-1] + bytes.fromhex("01 03 02 0002")


def test_nullable_struct_in_a_tagged_field() -> None:
    value = ConsumerGroupMemberMetadataValue(classic_member_metadata=ClassicMemberMetadata(session_timeout_ms=1))
    encoded = value.encode(0)
    assert encoded.endswith(bytes.fromhex("01 00 07 01 00000001 01 00"))
    assert ConsumerGroupMemberMetadataValue.decode(encoded, 0) == (value, len(encoded))


def test_unknown_tagged_fields_are_skipped() -> None:
    request = HeartbeatRequest(group_id="g", member_id="m")
    data = request.encode(4)[:-1] + bytes.fromhex("02 05 01 ff 8001 00")
    assert HeartbeatRequest.decode(data, 4) == (request, len(data))


def test_tagged_fields_in_any_order_the_last_one_of_a_tag_counts() -> None:
    data = FetchRequest().encode(12)[:-1] + bytes.fromhex("03 07 00 00 02 02 61 00 02 02 62")
    message, end = FetchRequest.decode(data, 12)
    assert (message.cluster_id, end) == ("b", len(data))


def test_tagged_field_that_is_longer_than_its_content() -> None:
    data = FetchRequest().encode(12)[:-1] + bytes.fromhex("01 00 03 02 61 00")
    with pytest.raises(DecodeError, match="cluster_id"):
        FetchRequest.decode(data, 12)


@pytest.mark.parametrize("count", ["7fffffff", "ffffffff", "80000000", "00000002"])
def test_count_beyond_the_bytes_is_refused(count: str) -> None:
    with pytest.raises(DecodeError, match="topics"):
        MetadataRequest.decode(bytes.fromhex(f"{count} 0001 74"), 0)


def test_null_where_there_is_none() -> None:
    with pytest.raises(DecodeError, match="topics: null in version 0"):
        MetadataRequest.decode(b"\xff\xff\xff\xff", 0)
    with pytest.raises(DecodeError, match="group_id"):
        HeartbeatRequest.decode(bytes.fromhex("00 00000001 02 6d 00 00"), 4)


def test_wrong_utf8() -> None:
    with pytest.raises(DecodeError, match="HeartbeatRequest version 4"):
        HeartbeatRequest.decode(bytes.fromhex("02 ff 00000001 02 6d 00 00"), 4)


@pytest.mark.parametrize("version", [-1, 5, 1000])
def test_unknown_versions(version: int) -> None:
    with pytest.raises(DecodeError, match=f"no version {version}"):
        HeartbeatRequest.decode(bytes(50), version)
    with pytest.raises(EncodeError, match=f"no version {version}"):
        HeartbeatRequest().encode(version)


def commit(**changes: object) -> OffsetCommitRequest:
    partition = OffsetCommitRequestPartition(partition_index=1)
    for name, value in changes.items():
        setattr(partition, name, value)
    return OffsetCommitRequest(
        topics=[OffsetCommitRequestTopic(partitions=[OffsetCommitRequestPartition(), partition])]
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"partition_index": 1 << 31}, "partition_index: 2147483648 is not between -2147483648 and 2147483647"),
        ({"committed_offset": -(1 << 63) - 1}, "committed_offset: -9223372036854775809 is not between"),
        ({"committed_offset": "7"}, "committed_offset: '7' is not between"),
        ({"committed_metadata": 7}, "committed_metadata: 7 is no str"),
        ({"committed_metadata": "x" * 40_000}, "committed_metadata: 40000 bytes of text are more than 32767"),
        ({"committed_metadata": "ä" * 16_384}, "committed_metadata: 32768 bytes of text are more than 32767"),
        ({"committed_metadata": "\ud800"}, "committed_metadata: '\\\\ud800' is no Unicode text"),
    ],
)
@pytest.mark.parametrize("version", [7, 9])
def test_value_that_does_not_fit_is_named(changes: dict[str, object], complaint: str, version: int) -> None:
    with pytest.raises(EncodeError, match=r"OffsetCommitRequest\.topics\[0\]\.partitions\[1\]\." + complaint):
        commit(**changes).encode(version)


def test_the_longest_text() -> None:
    longest = commit(committed_metadata="x" * 32_767)
    assert OffsetCommitRequest.decode(longest.encode(9), 9)[0] == longest
    longer = longest.encode(9).replace(bytes.fromhex("808002"), bytes.fromhex("818002")).replace(b"xx", b"xxx", 1)
    with pytest.raises(DecodeError, match="string: length 32768"):
        OffsetCommitRequest.decode(longer, 9)


def test_uuid_of_a_wrong_size_is_named() -> None:
    partition = FetchPartition(replica_directory_id=Uuid(b"short"))
    with pytest.raises(EncodeError, match="replica_directory_id: b'short' is no UUID"):
        FetchRequest(topics=[FetchTopic(partitions=[partition])]).encode(17)


def test_null_that_a_version_cannot_carry_is_named() -> None:
    with pytest.raises(EncodeError, match=r"MetadataRequest\.topics: null in version 0"):
        MetadataRequest(topics=None).encode(0)
    with pytest.raises(EncodeError, match=r"DeleteTopicsRequest\.topic_names: None is no list"):
        DeleteTopicsRequest(topic_names=None).encode(3)  # type: ignore[arg-type]


def test_messages_compare_and_show_themselves_by_their_fields() -> None:
    assert HeartbeatRequest(group_id="g") == HeartbeatRequest(group_id="g")
    assert HeartbeatRequest(group_id="g") != HeartbeatRequest(group_id="h")
    assert repr(ApiVersion(api_key=1)) == "ApiVersion(api_key=1, min_version=0, max_version=0)"
    authenticate = SaslAuthenticateRequest(auth_bytes=b"user password")
    assert repr(authenticate) == "SaslAuthenticateRequest(auth_bytes=<13 bytes>)"
    topic = FetchTopic(topic="t", topic_id=parse_uuid("J8qXRwI-Qyi2G0guFTiuYw"))
    assert repr(topic) == "FetchTopic(topic='t', topic_id=J8qXRwI-Qyi2G0guFTiuYw, partitions=[])"
    with pytest.raises(AttributeError):
        HeartbeatRequest().misspelt = 1  # type: ignore[attr-defined]
