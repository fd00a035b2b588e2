"""Batches of a partition as they lie, whatever became of their transactions: up to the high watermark."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from ottla.client.errors import ClientError
from ottla.client.transport import FetchPartition, FetchRequest
from ottla.client.types import ConfigResource, TopicPartition
from ottla.core.types import Buffer
from ottla.mirror.core.exact import Batch, batches_of
from ottla.mirror.engine.side import Side

_WAIT_MS: Final = 500
_MANY_BYTES: Final = 4 << 20


async def raw_batches_at(side: Side, partition: TopicPartition, offset: int) -> list[Batch]:
    """The batch that holds an offset, or what follows it; none when there is nothing. Raises ClientError."""
    return list(batches_of(await side.patiently(partial(_fetch, side, partition, offset, 1))))


async def raw_batches(side: Side, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Batch]:
    """The batches from the one that holds `start` to before `end`, in order. Raises ClientError."""
    position = start
    while position < end:
        data = await side.patiently(partial(_fetch, side, partition, position, _MANY_BYTES))
        batches = list(batches_of(data))
        if not batches:
            return
        for batch in batches:
            if batch.header.base_offset >= end:
                return
            yield batch
            position = batch.header.next_offset


async def is_compacted(side: Side, topic: str) -> bool:
    """Whether `cleanup.policy` of the topic has compact."""
    resource = ConfigResource.topic(topic)
    found = (await side.transport.describe_configs([resource], include_documentation=False))[resource]
    if isinstance(found, ClientError):
        raise found
    policy = found.get("cleanup.policy")
    return policy is not None and "compact" in (policy.value or "")


async def _fetch(side: Side, partition: TopicPartition, offset: int, max_bytes: int) -> Buffer:
    node_id, _ = side.leader(partition)
    topic_id = side.topic_id(partition.topic)
    request = FetchRequest(
        _WAIT_MS,
        1,
        max_bytes,
        False,
        [FetchPartition(partition, offset, max_bytes)],
        topic_ids=None if topic_id is None else {partition.topic: topic_id},
    )
    [result] = await side.transport.fetch(node_id, request)
    if result.error is not None:
        raise result.error
    return result.batches
