"""MM2's heartbeats: a record a second in `heartbeats`, by which readers see that the mirror is alive."""

import asyncio
import logging
import time

from ottla.client.errors import ClientError
from ottla.mirror.core.mm2_records import Heartbeat
from ottla.mirror.engine.plain_writer import write_records
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.topics import ensure_topic

logger = logging.getLogger("ottla.mirror")

_CONFIGS = {"cleanup.policy": "compact"}


async def beat(
    source_alias: str, target: Side, topic: str, interval_ms: int, replication_factor: int, timeout_ms: int
) -> None:
    """Until it is cancelled. A source may be there for reading only: then it is said once."""
    said = ""
    while True:
        try:
            await ensure_topic(target, topic, replication_factor, timeout_ms, _CONFIGS)
            heartbeat = Heartbeat(source_alias, target.alias, int(time.time() * 1000))
            await write_records(target, topic, [heartbeat.encode()])
        except ClientError as error:
            if str(error) != said:
                said = str(error)
                level = logging.DEBUG if target.outages.covers(error) else logging.WARNING
                logger.log(level, "%s: no heartbeat is written: %s", target.alias, error)
        await asyncio.sleep(interval_ms / 1000)
