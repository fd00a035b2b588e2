"""`make mirror-java`: two clusters, a flow between them, and RemoteClusterUtils of Maven Central on the target.

The source has transactions, aborted ones too, so that offsets are apart on the two sides, and a group at places that
are hard to translate: within a run, at a marker, at the end. Java must find the same offsets as our map, and read there
the record that the group has not read yet. Needs Java 17 or newer, and Maven once.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from ottla.client import Admin, Consumer, ConsumerRecord, OffsetAndMetadata, Producer, TopicPartition
from ottla.mirror.config import build_config
from ottla.mirror.core.mm2_records import Checkpoint
from ottla.mirror.engine.process import MirrorProcess
from ottla.testing.cluster import Cluster

HERE: Final = Path(__file__).parent
JARS: Final = Path("bench/.cache/mirror-client-libs").resolve()
TOPIC, GROUP, ALIAS = "orders", "billing", "primary"
PARTITIONS, TRANSACTIONS = 3, 48
PATIENCE_S: Final = 60.0


def main() -> int:
    """Exit code 1 when Java sees something else than we do."""
    fetch_jars()
    with Cluster() as source, Cluster() as target:
        wanted = asyncio.run(mirror(source, target))
        seen = look(target)
    for line in sorted(wanted - seen):
        print(f"Java does not see: {line}")
    for line in sorted(seen - wanted):
        print(f"Java sees besides: {line}")
    if wanted != seen:
        return 1
    print("\n".join(sorted(seen)))
    print(f"RemoteClusterUtils sees what it should: {len(seen)} facts.")
    return 0


def fetch_jars() -> None:
    """From Maven Central, once."""
    if JARS.exists():
        return
    partial = JARS.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    copy = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    subprocess.run([*copy, f"-DoutputDirectory={partial}"], check=True)
    partial.rename(JARS)


def look(target: Cluster) -> set[str]:
    """What the Java program prints, line by line."""
    program = ["java", "-Xmx256m", "-cp", f"{JARS}/*", str(HERE / "MirrorView.java"), target.bootstrap, ALIAS, GROUP]
    ran = subprocess.run(program, check=False, capture_output=True, text=True, timeout=PATIENCE_S * 3)
    if ran.returncode != 0:
        sys.exit(f"the Java program failed:\n{ran.stderr[-4000:]}")
    return set(ran.stdout.splitlines())


async def mirror(source: Cluster, target: Cluster) -> set[str]:
    """Fill the source, mirror it, and say what Java must see then."""
    committed = await fill(source)
    config = build_config(
        {
            "clusters": f"{ALIAS}, backup",
            f"{ALIAS}.bootstrap.servers": source.bootstrap,
            "backup.bootstrap.servers": target.bootstrap,
            f"{ALIAS}->backup.enabled": "true",
            f"{ALIAS}->backup.topics": TOPIC,
            "emit.checkpoints.interval.seconds": "1",
        }
    )
    async with asyncio.timeout(PATIENCE_S), MirrorProcess(config) as process:

        async def is_told() -> bool:
            told = {number: one.upstream_offset for number, one in (await checkpoints_of(target)).items()}
            return told == committed

        async def has_heartbeats() -> bool:
            return bool([one async for one in read(target, TopicPartition(f"{ALIAS}.heartbeats", 0), 0)])

        await until(is_told)
        await until(has_heartbeats)
        checkpoints = await checkpoints_of(target)
        ledger = process.books["backup"].ledger
        maps = {copy.map_id.partition: copy.map for copy in ledger if copy.source_topic == TOPIC}
    wanted = {
        f"upstream\t{ALIAS}",
        "heartbeats\theartbeats",
        f"heartbeats\t{ALIAS}.heartbeats",
        f"checkpoints\t{ALIAS}.checkpoints.internal",
        f"hops\t{ALIAS}\t1",
    }
    for partition, offset in committed.items():
        translated = maps[partition].to_target(offset)
        assert checkpoints[partition].downstream_offset == translated
        wanted.add(f"offset\t{ALIAS}.{TOPIC}\t{partition}\t{translated}\tnote {partition}")
        following = await next_value(source, TopicPartition(TOPIC, partition), offset)
        wanted.add(f"next\t{ALIAS}.{TOPIC}\t{partition}\t{following}")
    return wanted


async def fill(source: Cluster) -> dict[int, int]:
    """Records in transactions, each fifth aborted; the group's offsets by partition.

    A transaction takes eleven offsets of a partition: its ten records, and its marker.
    """
    async with Admin(bootstrap_servers=source.grpc) as admin:
        await admin.create_topic(TOPIC, num_partitions=PARTITIONS)
        async with Producer(bootstrap_servers=source.grpc, transactional_id="filler") as producer:
            for number in range(TRANSACTIONS):
                producer.begin_transaction()
                for value in range(number * 10, number * 10 + 10):
                    for partition in range(PARTITIONS):
                        await producer.send(TOPIC, b"record %d" % value, partition=partition)
                await producer.flush()
                await (producer.abort_transaction() if number % 5 == 0 else producer.commit_transaction())
        end = await end_of(source, TopicPartition(TOPIC, 2))
        # In the first a place within a transaction's records, in the second at a marker, in the third at the end.
        committed = {0: 6 * 11 + 4, 1: 8 * 11 - 1, 2: end}
        await admin.alter_group_offsets(
            GROUP,
            {
                TopicPartition(TOPIC, partition): OffsetAndMetadata(offset, f"note {partition}")
                for partition, offset in committed.items()
            },
        )
    return committed


async def end_of(cluster: Cluster, partition: TopicPartition) -> int:
    async with Consumer(bootstrap_servers=cluster.grpc) as consumer:
        return (await consumer.end_offsets([partition]))[partition]


async def next_value(cluster: Cluster, partition: TopicPartition, offset: int) -> str:
    """The first committed record from `offset` on; - when there is none."""
    async for record in read(cluster, partition, offset):
        return (record.value or b"").decode()
    return "-"


async def checkpoints_of(target: Cluster) -> dict[int, Checkpoint]:
    """The group's present ones, by partition."""
    found: dict[int, Checkpoint] = {}
    async for record in read(target, TopicPartition(f"{ALIAS}.checkpoints.internal", 0), 0):
        checkpoint = Checkpoint.decode(record.key or b"", record.value or b"")
        if checkpoint.group_id == GROUP:
            found[checkpoint.partition.partition] = checkpoint
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask twice a second."""
    while True:
        if await condition():
            return
        await asyncio.sleep(0.5)


async def read(
    cluster: Cluster, partition: TopicPartition, offset: int
) -> AsyncIterator[ConsumerRecord[bytes | None, bytes | None]]:
    """What is there from `offset` on; nothing when the topic does not exist."""
    async with Consumer(bootstrap_servers=cluster.grpc, isolation_level="read_committed") as consumer:
        if partition.topic not in await consumer.topics():
            return
        consumer.assign([partition])
        consumer.seek(partition, offset)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for record in (await consumer.poll(1000)).get(partition, []):
                yield record


if __name__ == "__main__":
    sys.exit(main())
