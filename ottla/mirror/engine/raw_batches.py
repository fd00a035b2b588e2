"""Batches of a partition as they lie, whatever became of their transactions: up to the high watermark."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from ottla.client.errors import ClientError
from ottla.client.transport import LATEST_TIMESTAMP, FetchPartition, FetchRequest, FetchResult
from ottla.client.types import ConfigResource, TopicPartition
from ottla.mirror.core.exact import Batch, batches_of
from ottla.mirror.engine.side import Side

_WAIT_MS: Final = 500
_MANY_BYTES: Final = 4 << 20


async def raw_batches_at(
    side: Side, partition: TopicPartition, offset: int, topic_id: str | None = None
) -> list[Batch]:
    """The batch that holds an offset, or what follows it; none when there is nothing. Raises ClientError.

    `topic_id`: of exactly this topic, UNKNOWN_TOPIC_ID when it is gone; else of the one that bears the name now.
    """
    found = await side.patiently(partial(_fetch, side, partition, offset, 1, _WAIT_MS, topic_id))
    return list(batches_of(found.batches))


async def raw_log(side: Side, partition: TopicPartition, topic_id: str) -> tuple[int, int]:
    """Log start and high watermark of exactly this topic, whatever bears its name meanwhile. Raises ClientError.

    Offsets are looked up by name. A fetch there names the id, so that its answer says whether the two are one.
    """
    end = await side.offset_at(partition, LATEST_TIMESTAMP, read_committed=False)
    found = await _fetch(side, partition, end, 1, 0, topic_id)
    return found.log_start_offset, found.high_watermark


async def raw_batches(side: Side, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Batch]:
    """The batches from the one that holds `start` to before `end`, in order. Raises ClientError."""
    position = start
    while position < end:
        batches = list(batches_of((await side.patiently(partial(_fetch, side, partition, position))).batches))
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


async def _fetch(
    side: Side,
    partition: TopicPartition,
    offset: int,
    max_bytes: int = _MANY_BYTES,
    wait_ms: int = _WAIT_MS,
    topic_id: str | None = None,
) -> FetchResult:
    node_id, _ = side.leader(partition)
    topic_id = topic_id or side.topic_id(partition.topic)
    request = FetchRequest(
        wait_ms,
        1,
        max_bytes,
        False,
        [FetchPartition(partition, offset, max_bytes)],
        topic_ids=None if topic_id is None else {partition.topic: topic_id},
    )
    [result] = await side.transport.fetch(node_id, request)
    if result.error is not None:
        raise result.error
    return result
