"""Records outside of transactions: heartbeats, checkpoints, offset syncs. All of them may repeat."""

import time
from collections.abc import Iterable

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import ProduceRequest
from ottla.client.types import TopicPartition
from ottla.mirror.engine.side import Side
from ottla.records.batch import Record, encode_batch

_TIMEOUT_MS = 10_000


async def write_records(side: Side, topic: str, records: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Keys and values, into the topic's first partition. Raises ClientError."""
    now_ms = int(time.time() * 1000)
    batch = encode_batch([Record(timestamp=now_ms, key=key, value=value) for key, value in records])
    partition = TopicPartition(topic, 0)

    async def write() -> None:
        node_id, _ = side.leader(partition)
        if node_id < 0:
            raise ClientError(ErrorCode.LEADER_NOT_AVAILABLE, "no leader is known", topic=topic)
        results = await side.transport.produce(node_id, ProduceRequest(-1, _TIMEOUT_MS, [(partition, batch)]))
        error = results[partition].error
        if error is not None:
            raise side.explained(error.at(topic, 0), "Write")

    await side.patiently(write)
