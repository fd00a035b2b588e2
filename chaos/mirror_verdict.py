"""The verdict of `chaos.mirror`: both clusters read whole, and the map between them followed record by record."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Set
from pathlib import Path
from typing import Final

import click
from confluent_kafka import Consumer, TopicPartition

from ottla.client import types
from ottla.client.errors import ClientError
from ottla.mirror.config import load_config
from ottla.mirror.operations.exact_verification import verify_exact
from ottla.mirror.operations.observing import Observer
from ottla.mirror.operations.verification import verify

PATIENCE_S: Final = 180.0


def judge(
    source: str, target: str, file: Path, partitions: int, acknowledged: Collection[str], aborted: Set[int]
) -> list[str]:
    """What is wrong; nothing: []. `source`, `target`: where clients begin. `file`: the mirror's configuration.

    `acknowledged`: values that the source must have. `aborted`: transactions of which nothing may be seen.
    """
    flow = load_config(file).flows[0]
    problems: list[str] = []
    seen: Counter[bytes] = Counter()
    [topic] = flow.topics.include
    for partition in range(partitions):
        deadline = time.monotonic() + PATIENCE_S
        while True:  # the source may have to settle too
            originals = values(source, topic, partition)
            copies = values(target, flow.remote_topic(topic), partition)
            if copies == originals or time.monotonic() > deadline:
                break
            time.sleep(1)
        click.echo(f"partition {partition}: {len(originals)} records, {len(copies)} copies")
        seen.update(originals)
        if copies != originals:
            lost, twice = Counter(originals) - Counter(copies), Counter(copies) - Counter(originals)
            problems.append(
                f"partition {partition}: {len(lost)} lost {list(lost)[:3]}, {len(twice)} twice {list(twice)[:3]}"
                f"{'' if lost or twice else ', another order'}"
            )
    missing = [value for value in acknowledged if value.encode() not in seen]
    if missing:
        problems.append(f"the source itself lost {len(missing)} acknowledged records {missing[:3]}")
    torn = aborted & {transaction_of(value) for value in seen}
    if torn:
        problems.append(f"records of {len(torn)} aborted transactions are seen {sorted(torn)[:3]}")
    return problems + asyncio.run(_verify(file, topic, partitions))


def transaction_of(value: bytes) -> int | None:
    """The number of the transaction that a value belongs to."""
    word, _, rest = value.partition(b"-")
    return int(rest.split(b"-")[0]) if word == b"transaction" else None


def values(bootstrap: str, topic: str, partition: int) -> list[bytes]:
    """The committed ones, up to where the partition ends now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "judge",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 2,
        }
    )
    found: list[bytes] = []
    consumer.assign([TopicPartition(topic, partition, 0)])
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(message.value() or b"")
            elif error.name() == "_PARTITION_EOF":
                break
    finally:
        consumer.close()
    return found


async def _verify(file: Path, topic: str, partitions: int) -> list[str]:
    config = load_config(file)
    flow = config.flows[0]
    problems: list[str] = []
    async with Observer(config, config.flows) as observer:
        for index in range(partitions):
            original = types.TopicPartition(topic, index)
            copy = types.TopicPartition(flow.remote_topic(topic), index)
            copied = observer.copy_of(flow, original)
            if copied is None:
                problems.append(f"partition {index}: no map")
                continue
            try:
                sides = observer.sides["a"], observer.sides["b"]
                if flow.exact:
                    verdict = await verify_exact(*sides, original, copy, compacted=False)
                else:
                    verdict = await verify(*sides, original, copy, copied, compacted=False)
            except ClientError as error:
                problems.append(f"partition {index}: cannot be compared: {error}")
                continue
            problems += [f"partition {index}: {one}" for one in verdict.differences]
            problems += [f"partition {index}: {verdict.foreign} foreign"] if verdict.foreign else []
    return problems
