"""Mirrors between two real clusters: nothing lost, nothing twice, offsets exact, no loops."""

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ottla.client import Admin, ConfigResource, OffsetAndMetadata, Producer, TopicPartition
from ottla.mirror.core.partition_task import State
from ottla.mirror.core.runs import CHUNK_RUNS
from ottla.mirror.engine.bookkeeping import Bookkeeping
from ottla.testing.cluster import Cluster
from tests.integration.mirror_rig import (
    WAIT_S,
    MirrorCommand,
    config_of,
    door,
    read_all,
    running,
    until,
    verified,
    write_properties,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, Cluster]]:
    with Cluster() as a, Cluster() as b:
        yield {"a": a, "b": b}


@pytest.fixture
async def topic(clusters: dict[str, Cluster]) -> str:
    """On the source only."""
    name = f"topic-{uuid.uuid4().hex[:8]}"
    async with Admin(**door(clusters["a"])) as admin:
        await admin.create_topic(name, 2)
    return name


async def produce(cluster: Cluster, topic: str, values: list[bytes], partition: int = 0) -> None:
    async with Producer(**door(cluster)) as producer:
        for value in values:
            await producer.send(topic, value, key=b"key", partition=partition)


async def write_with_aborts(cluster: Cluster, topic: str, transactions: int) -> None:
    """In partition 1, ten records each; every third transaction is aborted."""
    async with Producer(**door(cluster), transactional_id=f"writer-{topic}") as producer:
        for number in range(transactions):
            with suppress(ZeroDivisionError):
                async with producer.transaction():
                    for index in range(10):
                        await producer.send(topic, b"%d-%d" % (number, index), partition=1)
                    1 / (number % 3 - 2)


async def test_a_killed_mirror_loses_nothing_and_copies_nothing_twice(
    clusters: dict[str, Cluster], topic: str, tmp_path: Path
) -> None:
    config = config_of(clusters, topics=topic)
    command = MirrorCommand(write_properties(tmp_path / "mm2.properties", clusters, topics=topic))
    transactions, batches = 24, 12

    async def write() -> None:
        for number in range(batches):
            await produce(clusters["a"], topic, [b"%d" % (100 * number + index) for index in range(100)])
            await asyncio.sleep(0.2)

    writing = asyncio.gather(write(), write_with_aborts(clusters["a"], topic, transactions))
    try:
        for _ in range(3):
            await asyncio.to_thread(command.start)
            await asyncio.sleep(0.7)
            await asyncio.to_thread(command.kill)
        await asyncio.wait_for(writing, WAIT_S)
        await asyncio.to_thread(command.start)
        for partition, count in ((0, 100 * batches), (1, 10 * transactions * 2 // 3)):
            originals = await read_all(clusters["a"], topic, partition, count)
            copies = await read_all(clusters["b"], f"a.{topic}", partition, count)
            assert [value for _, value in copies] == [value for _, value in originals]
        assert await asyncio.to_thread(command.stop) == 0
    finally:
        writing.cancel()
        command.kill()
    verdicts = await verified(config, topic)
    assert [(one.compared, one.missing, one.differing, one.foreign) for one in verdicts] == [
        (1200, 0, 0, 0),
        (160, 0, 0, 0),
    ]


async def test_a_transaction_that_was_left_open_holds_up_no_later_mirror(
    clusters: dict[str, Cluster], topic: str, tmp_path: Path
) -> None:
    settings = {"topics": topic, "ottla_transaction_interval_ms": "1"}
    command = MirrorCommand(write_properties(tmp_path / "mm2.properties", clusters, **settings))
    copies: Callable[[], Awaitable[object]] = lambda: read_all(clusters["b"], f"a.{topic}", 1, 1)  # noqa: E731

    async def write() -> None:
        while True:
            await produce(clusters["a"], topic, [b"v" * 1000] * 20, 1)

    async def open_ones() -> list[str]:
        async with Admin(**door(clusters["b"])) as admin:
            listed = await admin.list_transactions(states=["Ongoing"])
        return [one.transactional_id for one in listed if one.transactional_id.startswith("ottla-mirror-")]

    async def interrupted(end: Callable[[], object], times: int) -> list[str]:
        """What is open when a mirror was ended in the middle of its work, at the latest when that was done so often."""
        for _ in range(times):
            await asyncio.to_thread(command.start)
            await asyncio.wait_for(copies(), WAIT_S)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(end)
            left = await open_ones()
            if left:
                break
        return left

    writing = asyncio.create_task(write())
    try:
        assert await interrupted(command.kill, 10), "a killed one leaves a transaction open"
        start = time.monotonic()
        await asyncio.to_thread(command.start)
        assert time.monotonic() - start < 20, "it would time out after 30 s"
        await asyncio.to_thread(command.stop)
        assert not await interrupted(command.stop, 2), "a stopped one does not"
    finally:
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        command.kill()


async def test_the_share_of_a_killed_process_goes_to_the_others(
    clusters: dict[str, Cluster], topic: str, tmp_path: Path
) -> None:
    async with Admin(**door(clusters["a"])) as admin:
        await admin.create_partitions({topic: 8})
    command = MirrorCommand(write_properties(tmp_path / "mm2.properties", clusters, topics=topic))
    try:
        async with running(config_of(clusters, topics=topic)) as process:
            runner = process.flows["a->b"]
            await until(lambda: len(runner.copiers) == 8, "one process has all")
            await asyncio.to_thread(command.start)
            await until(lambda: len(runner.copiers) < 8, "two share")
            await asyncio.to_thread(command.kill)
            for partition in range(8):
                await produce(clusters["a"], topic, [b"x"], partition)
            for partition in range(8):
                assert len(await read_all(clusters["b"], f"a.{topic}", partition, 1)) == 1
            assert len(runner.copiers) == 8
    finally:
        command.kill()


async def test_the_map_forgets_what_neither_side_has_any_more(clusters: dict[str, Cluster], topic: str) -> None:
    gaps = 2 * CHUNK_RUNS + 10  # each transaction of the source ends a run
    async with (
        Admin(**door(clusters["a"])) as source,
        Admin(**door(clusters["b"])) as target,
        running(config_of(clusters, topics=topic)) as process,
    ):
        for first in (0, gaps):
            async with Producer(**door(clusters["a"]), transactional_id=f"writer-{topic}") as producer:
                for number in range(first, first + gaps):
                    async with producer.transaction():
                        await producer.send(topic, b"%d" % number, partition=1)
            copies = await read_all(clusters["b"], f"a.{topic}", 1, gaps)
            assert [value for _, value in copies] == [b"%d" % number for number in range(first, first + gaps)]
            await source.delete_records({TopicPartition(topic, 1): 2 * gaps})
            await target.delete_records({TopicPartition(f"a.{topic}", 1): copies[-1][0] + 1})
        ledger = process.books["b"].ledger
        await until(lambda: any(one.source_topic == topic for one in ledger), "it is copied")
        [copied] = [one for one in ledger if one.source_topic == topic and one.map_id.partition == 1]
        assert len(list(copied.map.runs())) < gaps + CHUNK_RUNS
        again = Bookkeeping(process.sides["b"])  # as whoever comes next reads it
        try:
            await again.catch_up()
            known = again.ledger.get(copied.map_id)
            assert known is not None
            assert list(known.map.runs()) == list(copied.map.runs())
        finally:
            await again.close()


async def test_groups_go_on_in_the_target_at_the_very_record(clusters: dict[str, Cluster], topic: str) -> None:
    group_id = f"group-{topic}"
    await write_with_aborts(clusters["a"], topic, 6)
    originals = await read_all(clusters["a"], topic, 1, 40)
    settings = {"topics": topic, "groups": group_id, "sync_group_offsets_enabled": "true"}
    async with (
        Admin(**door(clusters["a"])) as source,
        Admin(**door(clusters["b"])) as target,
        running(config_of(clusters, **settings)) as process,
    ):
        copies = {value: offset for offset, value in await read_all(clusters["b"], f"a.{topic}", 1, 40)}
        copy = TopicPartition(f"a.{topic}", 1)
        for offset, value in (originals[3], originals[25], originals[39]):
            await source.alter_group_offsets(group_id, {TopicPartition(topic, 1): offset})

            async def is_moved(expected: int = copies[value]) -> bool:
                return await target.list_group_offsets(group_id) == {copy: OffsetAndMetadata(expected)}

            await until(is_moved, f"the group is at {copies[value]}")
        original_id = process.sides["a"].topic_id(topic)
        [found] = [one for one in process.books["b"].ledger if one.map_id[1:2] == (original_id,) and one.map_id[3] == 1]
        for offset, value in originals:
            assert found.map.to_target(offset) == copies[value]
            assert found.map.to_source(copies[value]) == offset
    records = await read_all(clusters["b"], "a.checkpoints.internal", 0, 3)
    assert len(records) >= 3


async def test_active_active_with_the_same_names_brings_each_record_once(
    clusters: dict[str, Cluster], topic: str
) -> None:
    async with Admin(**door(clusters["b"])) as admin:
        await admin.create_topic(topic, 2)
    config = config_of(clusters, "a->b,b->a", topics=topic, replication_policy_class="identity")
    async with running(config):
        for number in range(3):
            await produce(clusters["a"], topic, [b"a%d" % (10 * number + index) for index in range(10)])
            await produce(clusters["b"], topic, [b"b%d" % (10 * number + index) for index in range(10)])
            await write_with_aborts(clusters["a" if number % 2 else "b"], topic, 1)
        for partition, count in ((0, 60), (1, 30)):
            here = [value for _, value in await read_all(clusters["a"], topic, partition, count)]
            there = [value for _, value in await read_all(clusters["b"], topic, partition, count)]
            assert len(here) == len(there) == count
            assert sorted(map(str, here)) == sorted(map(str, there))
            for alias in (b"a", b"b"):
                mine = [value for value in here if value and value.startswith(alias)]
                assert mine == [value for value in there if value and value.startswith(alias)]


async def test_a_topic_made_again_stops_its_partitions_or_starts_over_as_configured(
    clusters: dict[str, Cluster], topic: str
) -> None:
    await produce(clusters["a"], topic, [b"first"])
    async with Admin(**door(clusters["a"])) as admin, running(config_of(clusters, topics=topic)) as process:
        copiers = process.flows["a->b"].copiers
        await read_all(clusters["b"], f"a.{topic}", 0, 1)
        await admin.delete_topic(topic)
        await admin.create_topic(topic, 2)
        await produce(clusters["a"], topic, [b"second"])

        def is_stopped() -> bool:
            copier = copiers.get(TopicPartition(topic, 0))
            return copier is not None and copier.task.state is State.STOPPED

        await until(is_stopped, "the partition is stopped")
        assert "made again on the source" in copiers[TopicPartition(topic, 0)].task.last_error
        assert [value for _, value in await read_all(clusters["b"], f"a.{topic}", 0, 1)] == [b"first"]
    async with running(config_of(clusters, topics=topic, ottla_on_topic_recreated="start-over")):
        copies = await read_all(clusters["b"], f"a.{topic}", 0, 2)
        assert [value for _, value in copies] == [b"first", b"second"]


async def test_partitions_and_configs_follow_the_original(clusters: dict[str, Cluster], topic: str) -> None:
    resource = ConfigResource.topic(f"a.{topic}")
    async with (
        Admin(**door(clusters["a"])) as source,
        Admin(**door(clusters["b"])) as target,
        running(config_of(clusters, topics=topic, sync_topic_configs_interval_seconds="1")),
    ):
        await source.alter_configs({ConfigResource.topic(topic): {"retention.ms": "1234567"}})
        await source.create_partitions({topic: 3})
        await produce(clusters["a"], topic, [b"x"], partition=2)
        assert [value for _, value in await read_all(clusters["b"], f"a.{topic}", 2, 1)] == [b"x"]

        async def follows() -> bool:
            return (await target.describe_configs([resource]))[resource]["retention.ms"].value == "1234567"

        await until(follows, "the copy has the original's config")


async def test_a_record_too_large_goes_to_the_dead_letters_and_the_others_on(
    clusters: dict[str, Cluster], topic: str
) -> None:
    async with Admin(**door(clusters["b"])) as target:
        await target.create_topic(f"a.{topic}", 2, configs={"max.message.bytes": "2000"})
    await produce(clusters["a"], topic, [b"small", b"L" * 5000, b"small too"])
    settings = {"ottla_on_record_too_large": "dead-letter", "sync_topic_configs_enabled": "false"}
    async with running(config_of(clusters, topics=topic, **settings)):
        copies = await read_all(clusters["b"], f"a.{topic}", 0, 2)
        assert [value for _, value in copies] == [b"small", b"small too"]
        assert [value for _, value in await read_all(clusters["b"], f"a.{topic}.dlq", 0, 1)] == [b"L" * 5000]


async def test_the_commands_show_translate_verify_and_fail_over(
    ottla_cluster_factory: Callable[..., Cluster], clusters: dict[str, Cluster], tmp_path: Path
) -> None:
    own = ottla_cluster_factory()
    both = {"own": own, "b": clusters["b"]}
    topic = f"topic-{uuid.uuid4().hex[:8]}"
    group_id = f"group-{topic}"
    await produce(own, topic, [b"%d" % number for number in range(20)])
    async with Admin(**door(own)) as admin:
        await admin.alter_group_offsets(group_id, {TopicPartition(topic, 0): 7})
    file = write_properties(tmp_path / "mm2.properties", both, "own->b", topics=topic, groups=group_id)
    async with running(config_of(both, "own->b", topics=topic, groups=group_id)):
        await read_all(clusters["b"], f"own.{topic}", 0, 20)
        await read_all(clusters["b"], "own.checkpoints.internal", 0, 1)
    [status] = await command("status", file)
    assert (status["behind"], status["behind_s"], status["source_error"]) == (0, 0.0, None)
    assert (await command("translate", file, "own->b", f"{topic}-0", "7"))["offset"] == 7
    assert (await command("translate", file, "own->b", f"{topic}-0", "21", code=7))["offset"] is None
    [verdict] = await command("verify", file)
    assert (verdict["good"], verdict["compared"]) == (True, 20)
    rehearsed = await command("failover", file, "own->b", "--without-source")
    assert rehearsed["source_error"] and rehearsed["lost_records"] is None
    assert rehearsed["groups"] == {group_id: {f"own.{topic}-0": 7}}
    await asyncio.to_thread(own.kill)
    shown = await command("failover", file, "own->b")
    assert shown["groups"] == rehearsed["groups"]
    assert shown["source_error"] and shown["lost_records"] is None and shown["youngest_copy_ms"] > 0
    async with Admin(**door(clusters["b"])) as admin:
        assert await admin.list_group_offsets(group_id) == {}
        await command("failover", file, "own->b", "--execute")
        copy = TopicPartition(f"own.{topic}", 0)
        assert await admin.list_group_offsets(group_id) == {copy: OffsetAndMetadata(7)}
        await admin.alter_group_offsets(group_id, {copy: 12})
        await asyncio.to_thread(own.start)
        back = await command("failback", file, "own->b", "--execute")
        assert back["groups"] == {group_id: {f"{topic}-0": 12}}
    async with Admin(**door(own)) as admin:
        assert await admin.list_group_offsets(group_id) == {TopicPartition(topic, 0): OffsetAndMetadata(12)}


async def command(*words: object, code: int = 0) -> Any:
    """What `ottla mirror … --json` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ottla.cli", "mirror", *map(str, words), "--json", stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == code
    return json.loads(out)
