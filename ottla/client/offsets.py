"""Offsets by time, earliest and latest: asked of each partition's leader."""

import asyncio
from collections.abc import Mapping

from ottla.client.backoff import Backoff
from ottla.client.config import ConnectionConfig
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.metadata import Metadata
from ottla.client.transport import Transport
from ottla.client.types import OffsetAndTimestamp, TopicPartition

Offsets = dict[TopicPartition, OffsetAndTimestamp | ClientError]


async def list_offsets(
    transport: Transport, metadata: Metadata, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
) -> Offsets:
    """One attempt; an offset or an error for each partition."""
    found: Offsets = {}
    by_node: dict[int, dict[TopicPartition, int]] = {}
    for partition, timestamp in timestamps.items():
        leader = metadata.leader_id(partition)
        if leader < 0:
            found[partition] = _without_leader(metadata, partition)
        else:
            by_node.setdefault(leader, {})[partition] = timestamp
    for node_id, wanted in by_node.items():
        try:
            found |= await transport.list_offsets(node_id, wanted, read_committed=read_committed)
        except ClientError as error:
            found |= dict.fromkeys(wanted, error)
    return found


def _without_leader(metadata: Metadata, partition: TopicPartition) -> ClientError:
    known = metadata.errors.get(partition.topic)
    if known is not None:
        return known
    view = metadata.topics.get(partition.topic)
    unknown = view is None or partition.partition >= view.partition_count
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if unknown else ErrorCode.LEADER_NOT_AVAILABLE
    return ClientError(code, topic=partition.topic, partition=partition.partition)


async def list_offsets_surely(
    transport: Transport,
    metadata: Metadata,
    config: ConnectionConfig,
    timestamps: Mapping[TopicPartition, int],
    *,
    read_committed: bool,
) -> dict[TopicPartition, OffsetAndTimestamp]:
    """Attempts for `api_timeout_ms`; raises the first error that is not retriable, or that is left then."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + config.api_timeout_ms / 1000
    backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
    metadata.want(tuple({partition.topic for partition in timestamps}))
    attempts = 0
    found: dict[TopicPartition, OffsetAndTimestamp] = {}
    while True:
        missing = {partition: timestamp for partition, timestamp in timestamps.items() if partition not in found}
        if any(partition.topic not in metadata.topics for partition in missing):
            await metadata.updated()
        failure: ClientError | None = None
        answers = await list_offsets(transport, metadata, missing, read_committed=read_committed)
        for partition, answer in answers.items():
            if not isinstance(answer, ClientError):
                found[partition] = answer
            elif not answer.retriable:
                raise answer
            else:
                failure = answer
        if failure is None:
            return found
        attempts += 1
        delay = backoff.delay_ms(attempts) / 1000
        if loop.time() + delay > deadline:
            raise failure
        metadata.request_update()
        await asyncio.sleep(delay)
