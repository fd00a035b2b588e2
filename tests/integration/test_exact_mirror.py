"""Byte-exact links between two real clusters: the same batches at the same offsets, promotion, and the way back."""

import asyncio
import functools
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from ottla.client import Admin, ConfigResource, Consumer, Producer, TopicPartition
from ottla.client.errors import ClientError, ErrorCode
from ottla.mirror.config import MirrorConfig, build_config
from ottla.mirror.core.partition_task import State
from ottla.mirror.operations.exact_verification import verify_exact
from ottla.mirror.operations.observing import Observer
from ottla.testing.cluster import Cluster
from tests.integration.mirror_rig import WAIT_S, MirrorCommand, door, read_all, running, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, Cluster]]:
    with Cluster(settings={"log.cleaner.backoff.ms": 500}) as a, Cluster() as b:
        yield {"a": a, "b": b}


@pytest.fixture
async def topic(clusters: dict[str, Cluster]) -> str:
    """On the source only."""
    name = f"topic-{uuid.uuid4().hex[:8]}"
    async with Admin(**door(clusters["a"])) as admin:
        await admin.create_topic(name, 2)
    return name


def values_of(clusters: dict[str, Cluster], topics: str, flows: str = "a->b,b->a") -> dict[str, str]:
    values = {
        "clusters": ",".join(clusters),
        "topics": topics,
        "ottla.exact": "true",
        "sync.group.offsets.enabled": "true",
        "emit.heartbeats.enabled": "false",
        "ottla.retry.backoff.max.ms": "500",
    }
    for name in ("refresh.topics", "refresh.groups", "emit.checkpoints", "sync.group.offsets"):
        values[f"{name}.interval.seconds"] = "1"
    for alias, cluster in clusters.items():
        values |= {f"{alias}.bootstrap.servers": cluster.grpc, f"{alias}.ottla.protocol": "grpc"}
    return values | {f"{flow}.enabled": "true" for flow in flows.split(",")}


def config_of(clusters: dict[str, Cluster], topics: str, flows: str = "a->b,b->a") -> MirrorConfig:
    return build_config(values_of(clusters, topics, flows))


async def write(cluster: Cluster, topic: str, values: list[bytes], partition: int = 0, **settings: Any) -> None:
    async with Producer(**door(cluster), compression_type="lz4", linger_ms=5, **settings) as producer:
        for value in values:
            await producer.send(topic, value, key=b"key", partition=partition)


async def write_transactions(cluster: Cluster, topic: str, partition: int = 1) -> None:
    """One that is committed and one that is aborted."""
    async with Producer(**door(cluster), compression_type="lz4", transactional_id=f"writer-{topic}") as producer:
        for number in range(2):
            with suppress(ZeroDivisionError):
                async with producer.transaction():
                    for index in range(5):
                        await producer.send(topic, b"%d-%d" % (number, index), partition=partition)
                    await producer.flush()
                    1 / (number - 1)


async def check_read_only(cluster: Cluster, topic: str) -> None:
    async with Producer(**door(cluster)) as producer:
        with pytest.raises(ClientError) as caught:
            await producer.send_and_wait(topic, b"x", partition=0)
        assert caught.value.code is ErrorCode.POLICY_VIOLATION


async def is_copied(config: MirrorConfig, topic: str, flow: int = 0) -> bool:
    """Whether both sides end at the same offsets."""
    async with Observer(config, [config.flows[flow]]) as observer:
        source, target = (observer.sides[alias] for alias in (config.flows[flow].source, config.flows[flow].target))
        if topic not in source.topics or topic not in target.topics:
            return False
        for index in range(len(source.topics[topic].partitions)):
            ends = [
                await side.offset_at(TopicPartition(topic, index), -1, read_committed=False)
                for side in (source, target)
            ]
            if ends[0] != ends[1]:
                return False
        return True


async def verified(config: MirrorConfig, topic: str, flow: int = 0, *, compacted: bool = False) -> int:
    """Both sides are the same, byte for byte; how many records were compared."""
    compared = 0
    async with Observer(config, [config.flows[flow]]) as observer:
        source, target = (observer.sides[alias] for alias in (config.flows[flow].source, config.flows[flow].target))
        for index in range(len(source.topics[topic].partitions)):
            partition = TopicPartition(topic, index)
            verdict = await verify_exact(source, target, partition, partition, compacted=compacted)
            assert verdict.is_good, verdict.differences
            compared += verdict.compared
    return compared


async def test_a_link_is_the_source_byte_for_byte_through_kills_of_the_mirror(
    clusters: dict[str, Cluster], topic: str, tmp_path: Path
) -> None:
    config = config_of(clusters, topic)
    mirror = MirrorCommand(file_of(tmp_path, clusters, topic))

    async def write_all() -> None:
        for number in range(8):
            await write(clusters["a"], topic, [b"%d" % (100 * number + index) for index in range(100)])
            await asyncio.sleep(0.1)
        await write_transactions(clusters["a"], topic)

    writing = asyncio.create_task(write_all())
    try:
        for _ in range(2):
            await asyncio.to_thread(mirror.start)
            await asyncio.sleep(0.7)
            await asyncio.to_thread(mirror.kill)
        await asyncio.wait_for(writing, WAIT_S)
        await asyncio.to_thread(mirror.start)
        await until(lambda: is_copied(config, topic), "everything is copied")
        assert await verified(config, topic) == 800 + 5 + 5 + 2
        assert [value for _, value in await read_all(clusters["b"], topic, 1, 5)] == [b"0-%d" % n for n in range(5)]
        await check_read_only(clusters["b"], topic)
        assert await asyncio.to_thread(mirror.stop) == 0
    finally:
        writing.cancel()
        mirror.kill()


def command(name: str, file: Path, *arguments: str, code: int = 0) -> Any:
    """One of `ottla mirror`'s; its JSON."""
    asked = subprocess.run(
        [sys.executable, "-m", "ottla.cli", "mirror", name, str(file), *arguments, "--json"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == code, f"{asked.stdout}\n{asked.stderr}"
    return json.loads(asked.stdout)


def file_of(directory: Path, clusters: dict[str, Cluster], topics: str) -> Path:
    file = directory / "mm2.properties"
    file.write_text("".join(f"{name} = {value}\n" for name, value in values_of(clusters, topics).items()))
    return file


def read_as_group(cluster: Cluster, topic: str, group: str, count: int) -> list[bytes]:
    """What a group reads next with librdkafka, committed; nothing when there is nothing for a while."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    found: list[bytes] = []
    try:
        consumer.subscribe([topic])
        deadline = time.monotonic() + WAIT_S
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None:
                assert message.error() is None, message.error()
                found.append(message.value())
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return found


async def test_a_planned_move_loses_nothing_and_returns_in_place(
    clusters: dict[str, Cluster], topic: str, tmp_path: Path
) -> None:
    config, file, group = config_of(clusters, topic), file_of(tmp_path, clusters, topic), f"group-{topic}"
    a, b = clusters["a"], clusters["b"]
    await write(a, topic, [b"%d" % number for number in range(50)])
    at = TopicPartition(topic, 0)
    async with Admin(**door(a)) as admin:
        await admin.alter_group_offsets(group, {at: 20, TopicPartition(topic, 1): 0})
    async with Producer(**door(a), transactional_id=f"open-{topic}") as producer, running(config):
        producer.begin_transaction()
        await producer.send(topic, b"open", partition=1)
        await producer.flush()
        await until(lambda: stands_at(b, group, at, 20), "the group is in b, too")
        # By two people at the same moment.
        both = await asyncio.gather(
            *(asyncio.to_thread(command, "promote", file, "a->b", topic) for _ in range(2)),
        )
        promotions = [one["topics"][topic] for one in both]
        was_promoted = [one.pop("was_promoted") for one in promotions]
        assert not all(was_promoted)
        assert sum(one.pop("aborted_transactions") for one in promotions) == 1
        assert promotions == [{"end_offsets": [50, 1], "lost_records": 0, "lost_by_partition": {}}] * 2
        again = await asyncio.to_thread(command, "promote", file, "a->b", topic)
        assert again["topics"][topic]["was_promoted"]
        await write(b, topic, [b"%d" % number for number in range(50, 60)])
        # The group goes on in b where it was in a.
        assert await asyncio.to_thread(read_as_group, b, topic, group, 40) == [b"%d" % n for n in range(20, 60)]
        assert await read_all(b, topic, 1, 0) == []

        told = await asyncio.to_thread(command, "reverse", file, "a->b", topic)
        assert told["topics"][topic] == {"in_place": True, "discarded_records": 0}
        await producer.abort_transaction()  # of which no marker comes into the mirror
        await until(lambda: is_copied(config, topic, 1), "what was written in b is in a")
        assert await verified(config, topic, 1) == 60 + 2
        await check_read_only(a, topic)
        [status, back] = await asyncio.to_thread(command, "status", file, "--all")
        assert {one["mirror"] for one in status["partitions"] if one["topic"] == topic} == {"returning"}
        assert {(one["behind"], one["behind_s"]) for one in status["partitions"]} == {(None, None)}
        assert (status["behind"], status["behind_s"]) == (0, 0.0)  # what the other direction brought is no lag of this
        assert {one["mirror"] for one in back["partitions"] if one["topic"] == topic} == {"mirror"}
        assert (await asyncio.to_thread(command, "reverse", file, "a->b", topic))["topics"][topic]["in_place"]
        # And home again.
        await asyncio.to_thread(command, "promote", file, "b->a", topic)
        refused = await asyncio.to_thread(command, "reverse", file, "a->b", topic, "--discard-diverged", code=1)
        assert "reverse the flow b->a" in refused["errors"][topic]
        await write(a, topic, [b"60"])
        assert [value for _, value in await read_all(a, topic, 0, 61)] == [b"%d" % number for number in range(61)]


async def test_a_failover_says_what_is_lost_and_its_return_discards_it_only_when_told(
    clusters: dict[str, Cluster], topic: str, tmp_path: Path
) -> None:
    config, file = config_of(clusters, topic), file_of(tmp_path, clusters, topic)
    a, b = clusters["a"], clusters["b"]
    await write(a, topic, [b"kept"] * 10)
    async with running(config):
        await until(lambda: is_copied(config, topic), "everything is copied")
    await write(a, topic, [b"lost"] * 7)
    refused = await asyncio.to_thread(command, "promote", file, "a->b", topic, "--timeout", "0.5", code=1)
    assert "7 in partition 0" in refused["errors"][topic]
    async with Admin(**door(b)) as admin:  # as a promotion leaves it that was interrupted
        await admin.alter_configs({ConfigResource.topic(topic): {"ottla.mirror.state": "promoting"}})
    told = await asyncio.to_thread(command, "failover", file, "a->b", "--execute")
    assert (told["lost_records"], told["promoted"]) == (7, [topic])
    await write(b, topic, [b"new"] * 3)
    refused = await asyncio.to_thread(command, "reverse", file, "a->b", topic, code=1)
    assert refused["diverged"] == {topic: {"0": 7}}
    await write(a, topic, [b"still written"])
    told = await asyncio.to_thread(command, "reverse", file, "a->b", topic, "--discard-diverged")
    assert told["topics"][topic] == {"in_place": False, "discarded_records": 8}
    async with running(config):
        await until(lambda: is_copied(config, topic, 1), "b is in a")
    assert [value for _, value in await read_all(a, topic, 0, 13)] == [b"kept"] * 10 + [b"new"] * 3
    assert await verified(config, topic, 1) == 13


async def test_gaps_of_compaction_and_a_late_log_start_are_mirrored(clusters: dict[str, Cluster]) -> None:
    compacted, late = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("compacted", "late"))
    config = config_of(clusters, f"{compacted}, {late}")
    a = clusters["a"]
    async with Admin(**door(a)) as admin:
        await admin.create_topic(
            compacted,
            1,
            configs={"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"},
        )
        await admin.create_topic(late, 1)
        await write(a, late, [b"gone"] * 5)
        await admin.delete_records({TopicPartition(late, 0): 3})
    for number in range(6):
        await write(a, compacted, [b"%d" % number] * 3)
        await asyncio.sleep(0.15)
    await until(lambda: has_gap(a, compacted), "compaction leaves a gap")
    async with running(config) as process:
        for topic in (compacted, late):
            await until(functools.partial(is_copied, config, topic), f"{topic} is copied")
        await write(a, late, [b"kept"])
        async with Admin(**door(a)) as admin:
            await admin.delete_records({TopicPartition(late, 0): 5})
        await until(lambda: starts_at(clusters["b"], late, 5), "the mirror deletes what the source does")
        copiers = process.flows["a->b"].copiers.values()
        assert {copier.task.state for copier in copiers} == {State.COPYING}
        assert not any(copier.task.lost for copier in copiers)
    assert await verified(config, compacted, compacted=True) >= 3
    assert await verified(config, late) >= 1


async def has_gap(cluster: Cluster, topic: str) -> bool:
    offsets = [offset for offset, _ in await read_all(cluster, topic, 0, 1)]
    return len(offsets) < offsets[-1] - offsets[0] + 1 or offsets[0] > 0


async def stands_at(cluster: Cluster, group: str, partition: TopicPartition, offset: int) -> bool:
    async with Admin(**door(cluster)) as admin:
        found = (await admin.list_group_offsets(group)).get(partition)
        return found is not None and found.offset == offset


async def starts_at(cluster: Cluster, topic: str, offset: int) -> bool:
    async with Consumer(**door(cluster)) as consumer:
        at = TopicPartition(topic, 0)
        return (await consumer.beginning_offsets([at]))[at] == offset


async def test_a_source_that_was_made_again_is_not_mixed_with_the_one_before(
    clusters: dict[str, Cluster], topic: str
) -> None:
    config = config_of(clusters, topic)
    a = clusters["a"]
    await write(a, topic, [b"first"] * 5)
    async with running(config) as process:
        await until(lambda: is_copied(config, topic), "everything is copied")
        async with Admin(**door(a)) as admin:
            await admin.delete_topics([topic])
            await admin.create_topic(topic, 2)
        await write(a, topic, [b"second"] * 9)
        runner = process.flows["a->b"]

        def is_refused() -> bool:
            found = runner.standings.get(topic)
            return found is not None and "deleted and made again" in found.reason

        await until(is_refused, "the flow takes it no more")
        assert topic not in runner.names
    assert [value for _, value in await read_all(clusters["b"], topic, 0, 5)] == [b"first"] * 5


async def test_a_killed_leader_of_the_target_costs_nothing(clusters: dict[str, Cluster], topic: str) -> None:
    with Cluster(nodes=3) as three:
        pair = {"a": clusters["a"], "c": three}
        config = config_of(pair, topic, "a->c")
        values = [b"%d" % number for number in range(1500)]

        async def write_all() -> None:
            for start in range(0, 1500, 100):
                await write(pair["a"], topic, values[start : start + 100])
                await asyncio.sleep(0.1)
            await write_transactions(pair["a"], topic)

        writing = asyncio.create_task(write_all())
        try:
            async with running(config) as process:
                await until(lambda: topic in process.sides["c"].topics, "the mirror topic is there")
                leader = process.sides["c"].leader(TopicPartition(topic, 0))[0]
                await asyncio.sleep(0.5)
                await asyncio.to_thread(three.kill_node, leader)
                await asyncio.wait_for(writing, WAIT_S)
                await until(lambda: is_copied(config, topic), "everything is copied")
                assert await verified(config, topic) == 1500 + 5 + 5 + 2
                assert [value for _, value in await read_all(three, topic, 0, 1500)] == values
        finally:
            writing.cancel()
