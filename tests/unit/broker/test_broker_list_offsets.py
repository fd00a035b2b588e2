"""ListOffsets and OffsetForLeaderEpoch: special timestamps by version, look-ups, fencing."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.list_offsets import list_offsets
from ottla.broker.offset_for_leader_epoch import offset_for_leader_epoch
from ottla.core.errors import ErrorCode
from ottla.protocol.messages import list_offsets_request as requests
from ottla.protocol.messages import offset_for_leader_epoch_request as epoch_requests
from tests.unit.broker.hot_path import EPOCH, HotPath

TIMESTAMP = 1_700_000_000_000  # of every record that the rig appends


@pytest.fixture
def broker() -> HotPath:
    broker = HotPath({"t": 2})
    for _ in range(5):
        broker.append("t")
    return broker


async def ask(broker: HotPath, *timestamps: int, version: int = 11, index: int = 0, epoch: int = -1) -> list[Any]:
    """The answers to one request, a partition for each timestamp."""
    partitions = [
        requests.ListOffsetsPartition(partition_index=index + n, current_leader_epoch=epoch, timestamp=timestamp)
        for n, timestamp in enumerate(timestamps)
    ]
    request = requests.ListOffsetsRequest(topics=[requests.ListOffsetsTopic(name="t", partitions=partitions)])
    context = RequestContext(listener="PLAINTEXT", api_version=version)
    task = asyncio.create_task(list_offsets(cast(Broker, SimpleNamespace(replicas=broker.replicas)), request, context))
    await asyncio.sleep(0)
    broker.clock.run_for(100)
    [topic] = (await task).topics
    return [(answer.error_code, answer.offset, answer.timestamp) for answer in topic.partitions]


@pytest.mark.parametrize(
    ("timestamp", "first_version", "answer"),
    [
        (-1, 1, (0, 5, -1)),
        (-2, 1, (0, 2, -1)),
        (-3, 7, (0, 2, TIMESTAMP)),
        (-4, 8, (0, 2, -1)),
        (-5, 9, (0, -1, -1)),
        (-6, 11, (0, -1, -1)),
    ],
)
async def test_special_timestamps(
    broker: HotPath, timestamp: int, first_version: int, answer: tuple[int, int, int]
) -> None:
    broker.partition("t").move_log_start(2)
    assert await ask(broker, timestamp, version=first_version) == [answer]
    if first_version > 1:
        assert await ask(broker, timestamp, version=first_version - 1) == [(ErrorCode.UNSUPPORTED_VERSION, -1, -1)]


async def test_an_unknown_special_timestamp_is_refused(broker: HotPath) -> None:
    assert await ask(broker, -7) == [(ErrorCode.UNSUPPORTED_VERSION, -1, -1)]


async def test_look_ups_by_timestamp(broker: HotPath) -> None:
    assert await ask(broker, TIMESTAMP - 1, TIMESTAMP) == [(0, 0, TIMESTAMP), (0, -1, -1)]
    assert await ask(broker, TIMESTAMP + 1) == [(0, -1, -1)]


async def test_wrong_partitions_and_epochs_fail_alone(broker: HotPath) -> None:
    assert await ask(broker, -1, -1, index=1) == [(0, 0, -1), (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)]
    assert await ask(broker, -1, epoch=EPOCH + 1) == [(ErrorCode.UNKNOWN_LEADER_EPOCH, -1, -1)]
    assert await ask(broker, -1, epoch=EPOCH - 1) == [(ErrorCode.FENCED_LEADER_EPOCH, -1, -1)]


async def test_the_end_of_an_epoch(broker: HotPath) -> None:
    wanted = [
        epoch_requests.OffsetForLeaderPartition(partition=index, leader_epoch=EPOCH, current_leader_epoch=EPOCH)
        for index in (0, 5)
    ]
    request = epoch_requests.OffsetForLeaderEpochRequest(
        topics=[epoch_requests.OffsetForLeaderTopic(topic="t", partitions=wanted)]
    )
    context = RequestContext(listener="PLAINTEXT", api_version=4)
    response = await offset_for_leader_epoch(cast(Broker, SimpleNamespace(replicas=broker.replicas)), request, context)
    [known, unknown] = response.topics[0].partitions
    assert (known.error_code, known.leader_epoch, known.end_offset) == (0, EPOCH, 5)
    assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
