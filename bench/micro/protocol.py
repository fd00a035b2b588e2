"""How long it takes to encode and decode messages of usual sizes: ``python -m bench.micro.protocol [--json]``."""

import json
import sys
from collections.abc import Callable
from timeit import repeat

from ottla.core.types import Uuid
from ottla.protocol.message import Message
from ottla.protocol.messages.api_versions_request import ApiVersionsRequest
from ottla.protocol.messages.api_versions_response import ApiVersion, ApiVersionsResponse
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.heartbeat_response import HeartbeatResponse
from ottla.protocol.messages.metadata_response import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ottla.protocol.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_commit_response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

REPEATS, SECONDS_A_REPEAT = 7, 0.03


def samples() -> list[tuple[str, Message, int]]:
    """(name, message, version); the numbers are the acceptance's: OffsetCommit of ten partitions."""
    commits = [OffsetCommitRequestPartition(partition_index=i, committed_offset=10**6 + i) for i in range(10)]
    commit = OffsetCommitRequest(
        group_id="billing",
        member_id="consumer-1-2f7c8f0e-4f4e-4c1b-9d2b-1f3f5f7f9fbf",
        generation_id_or_member_epoch=7,
        topics=[OffsetCommitRequestTopic(name="orders", topic_id=Uuid(bytes(range(16))), partitions=commits)],
    )
    committed = OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name="orders", partitions=[OffsetCommitResponsePartition(partition_index=i) for i in range(10)]
            )
        ]
    )
    heartbeat = HeartbeatRequest(group_id="billing", generation_id=7, member_id=commit.member_id)
    versions = ApiVersionsResponse(api_keys=[ApiVersion(api_key=i, max_version=9) for i in range(60)])
    client = ApiVersionsRequest(client_software_name="librdkafka", client_software_version="2.6.0")
    metadata = MetadataResponse(
        brokers=[MetadataResponseBroker(node_id=i, host="kafka.example.com", port=9092) for i in range(3)],
        topics=[
            MetadataResponseTopic(
                name="orders",
                topic_id=Uuid(bytes(range(16))),
                partitions=[
                    MetadataResponsePartition(
                        partition_index=i, leader_id=i % 3, leader_epoch=4, replica_nodes=[0, 1, 2], isr_nodes=[0, 1, 2]
                    )
                    for i in range(1000)
                ],
            )
        ],
    )
    return [
        ("ApiVersions request", client, 3),
        ("ApiVersions response, 60 keys", versions, 3),
        ("Heartbeat request", heartbeat, 4),
        ("Heartbeat response", HeartbeatResponse(), 4),
        ("OffsetCommit request, 10 partitions, classic", commit, 7),
        ("OffsetCommit request, 10 partitions", commit, 9),
        ("OffsetCommit request, 10 partitions, topic id", commit, 10),
        ("OffsetCommit response, 10 partitions", committed, 9),
        ("Metadata response, 1,000 partitions", metadata, 12),
    ]


def measure(name: str, message: Message, version: int) -> dict[str, object]:
    encoded, cls = message.encode(version), type(message)
    return {
        "message": name,
        "version": version,
        "bytes": len(encoded),
        "encode_us": _best(lambda: message.encode(version)),
        "decode_us": _best(lambda: cls.decode(encoded, version)),
    }


def _best(call: Callable[[], object]) -> float:
    once = min(repeat(call, number=1, repeat=5))
    number = max(1, int(SECONDS_A_REPEAT / once))
    return round(min(repeat(call, number=number, repeat=REPEATS)) / number * 1e6, 2)


def main(arguments: list[str]) -> int:
    rows = [measure(*sample) for sample in samples()]
    if "--json" in arguments:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'message':48} {'version':>7} {'bytes':>7} {'encode us':>10} {'decode us':>10}")
    for row in rows:
        print(f"{row['message']:48} {row['version']:7} {row['bytes']:7} {row['encode_us']:10} {row['decode_us']:10}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
