"""DescribeLogDirs: how much room this broker's partitions take. A node has one data directory."""

from collections import defaultdict

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.partitions.partition import Partition
from ottla.protocol.messages.describe_log_dirs_request import DescribeLogDirsRequest
from ottla.protocol.messages.describe_log_dirs_response import (
    DescribeLogDirsPartition,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)


async def describe_log_dirs(
    broker: Broker, request: DescribeLogDirsRequest, context: RequestContext
) -> DescribeLogDirsResponse:
    """Partitions that are not on this broker are left out."""
    topics: defaultdict[str, list[Partition]] = defaultdict(list)
    if request.topics is None:
        for partition in broker.partitions:
            topics[partition.topic].append(partition)
    else:
        for topic in request.topics:
            found = (broker.partitions.get(topic.topic, index) for index in dict.fromkeys(topic.partitions))
            topics[topic.topic] += [partition for partition in found if partition is not None]
    return DescribeLogDirsResponse(
        results=[
            DescribeLogDirsResult(
                log_dir=broker.settings.data_dir,
                topics=[
                    DescribeLogDirsTopic(
                        name=name,
                        partitions=[
                            DescribeLogDirsPartition(
                                partition_index=partition.index, partition_size=partition.size_bytes, offset_lag=0
                            )
                            for partition in partitions
                        ],
                    )
                    for name, partitions in topics.items()
                    if partitions
                ],
            )
        ]
    )
