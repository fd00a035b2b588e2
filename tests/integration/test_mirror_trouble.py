"""What a mirror says, and does, when something is not as it should be: clusters, topics, disks, records."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.stalled_disk import StallableDisks
from ottla.client import Admin, Producer, TopicPartition
from ottla.mirror.core.partition_task import Lost, State
from ottla.mirror.engine.copier import PartitionCopier
from ottla.mirror.engine.process import MirrorProcess
from ottla.testing.cluster import Cluster
from tests.integration.mirror_rig import (
    config_of,
    door,
    ottla_mirror,
    read_all,
    running,
    until,
    write_properties,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> StallableDisks:
    return StallableDisks(tmp_path_factory.mktemp("disks"))


@pytest.fixture(scope="module")
def clusters(disks: StallableDisks) -> Iterator[dict[str, Cluster]]:
    with Cluster() as a, Cluster(environment=disks.environment) as b:
        yield {"a": a, "b": b}


@pytest.fixture
async def topic(clusters: dict[str, Cluster]) -> str:
    """On the source only, of one partition."""
    name = f"topic-{uuid.uuid4().hex[:8]}"
    async with Admin(**door(clusters["a"])) as admin:
        await admin.create_topic(name, 1)
    return name


async def produce(cluster: Cluster, topic: str, *values: bytes) -> None:
    async with Producer(**door(cluster)) as producer:
        for value in values:
            await producer.send(topic, value)


def values(copies: list[tuple[int, bytes | None]]) -> list[bytes | None]:
    return [value for _, value in copies]


async def copier_of(process: MirrorProcess, topic: str) -> PartitionCopier:
    copiers = process.flows["a->b"].copiers
    await until(lambda: TopicPartition(topic, 0) in copiers, "it is copied")
    return copiers[TopicPartition(topic, 0)]


@pytest.mark.parametrize("missing", ["a", "b"])
async def test_a_cluster_that_does_not_answer_is_named_with_what_to_change(
    clusters: dict[str, Cluster], tmp_path: Path, missing: str
) -> None:
    file = write_properties(tmp_path / "mm2.properties", clusters)
    address = clusters[missing].bootstrap
    file.write_text(file.read_text().replace(address, "localhost:1"))
    code, _, errors = await ottla_mirror("run", file)
    assert code == 3
    assert f"cluster {missing}: cannot connect to localhost:1" in errors
    assert f"{missing}.bootstrap.servers" in errors
    assert "Traceback" not in errors


async def test_a_grpc_port_is_told_from_a_kafka_port(clusters: dict[str, Cluster], tmp_path: Path) -> None:
    file = write_properties(tmp_path / "mm2.properties", clusters)
    file.write_text(file.read_text().replace(clusters["a"].bootstrap, clusters["a"].grpc))
    code, _, errors = await ottla_mirror("run", file)
    assert (code, "Traceback" in errors) == (3, False)
    assert "cluster a" in errors
    assert "gRPC port" in errors


async def test_a_flow_from_a_cluster_into_itself_is_refused(clusters: dict[str, Cluster], tmp_path: Path) -> None:
    """It would copy its own copies without end."""
    file = write_properties(tmp_path / "mm2.properties", {"a": clusters["a"], "b": clusters["a"]})
    code, _, errors = await ottla_mirror("run", file)
    assert code == 2
    assert "a->b: both are the same cluster" in errors


async def test_a_topic_that_is_missing_is_told_and_copied_when_it_comes(
    clusters: dict[str, Cluster], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"topic-{uuid.uuid4().hex[:8]}"
    file = write_properties(tmp_path / "mm2.properties", clusters, topics=topic)
    async with running(config_of(clusters, topics=topic)):
        await until(lambda: f"a has no topic {topic} yet" in caplog.text, "it is told")
        _, out, _ = await ottla_mirror("status", file, "--json")
        assert json.loads(out)[0]["missing_topics"] == [topic]
        _, out, _ = await ottla_mirror("status", file)
        assert topic in out
        code, _, errors = await ottla_mirror("verify", file, "--topic", topic)
        assert (code, "no flow of the file has a copy of it" in errors) == (4, True)
        async with Admin(**door(clusters["a"])) as admin:
            await admin.create_topic(topic, 1)
        await produce(clusters["a"], topic, b"x")
        assert values(await read_all(clusters["b"], f"a.{topic}", 0, 1)) == [b"x"]


async def test_records_that_the_source_deleted_before_they_were_copied_are_told_with_their_range(
    clusters: dict[str, Cluster], topic: str, tmp_path: Path
) -> None:
    config = config_of(clusters, topics=topic)
    await produce(clusters["a"], topic, b"0", b"1")
    async with running(config):
        await read_all(clusters["b"], f"a.{topic}", 0, 2)
    await produce(clusters["a"], topic, b"2", b"3", b"4")
    async with Admin(**door(clusters["a"])) as admin:
        await admin.delete_records({TopicPartition(topic, 0): 4})
    async with running(config) as process:
        assert values(await read_all(clusters["b"], f"a.{topic}", 0, 3)) == [b"0", b"1", b"4"]
        assert (await copier_of(process, topic)).task.lost == [Lost(2, 4)]
        file = write_properties(tmp_path / "mm2.properties", clusters, topics=topic)

        async def is_reported() -> bool:
            _, out, _ = await ottla_mirror("status", file, "--json")
            [partition] = json.loads(out)[0]["partitions"]
            return bool(partition["lost"] == [[2, 4]])

        await until(is_reported, "the loss is in the status")
        _, out, _ = await ottla_mirror("status", file)
        assert "the source lost offsets 2 to 3 before" in " ".join(out.split())


async def test_a_copy_that_was_deleted_and_made_again_is_not_filled_unasked(
    clusters: dict[str, Cluster], topic: str
) -> None:
    await produce(clusters["a"], topic, b"first")
    async with Admin(**door(clusters["b"])) as target, running(config_of(clusters, topics=topic)) as process:
        await read_all(clusters["b"], f"a.{topic}", 0, 1)
        await target.delete_topic(f"a.{topic}")
        await produce(clusters["a"], topic, b"second")
        copiers = process.flows["a->b"].copiers

        def is_stopped() -> bool:
            copier = copiers.get(TopicPartition(topic, 0))
            return copier is not None and copier.task.state is State.STOPPED

        await until(is_stopped, "the partition is stopped")
        assert "made again on the target" in copiers[TopicPartition(topic, 0)].task.last_error
    async with running(config_of(clusters, topics=topic, ottla_on_topic_recreated="start-over")):
        assert values(await read_all(clusters["b"], f"a.{topic}", 0, 2)) == [b"first", b"second"]


async def test_a_record_too_large_stops_its_partition_and_says_how_large(
    clusters: dict[str, Cluster], topic: str
) -> None:
    async with Admin(**door(clusters["b"])) as target:
        await target.create_topic(f"a.{topic}", 1, configs={"max.message.bytes": "2000"})
    await produce(clusters["a"], topic, b"small", b"L" * 5000)
    async with running(config_of(clusters, topics=topic, sync_topic_configs_enabled="false")) as process:
        assert values(await read_all(clusters["b"], f"a.{topic}", 0, 1)) == [b"small"]
        copier = await copier_of(process, topic)
        await until(lambda: copier.task.state is State.STOPPED, "the partition is stopped")
        assert "the record at offset 1 (50" in copier.task.last_error
        assert "larger than the target takes" in copier.task.last_error


async def test_a_disk_of_the_target_that_takes_nothing_is_named_and_nothing_is_lost(
    clusters: dict[str, Cluster], disks: StallableDisks, topic: str
) -> None:
    await produce(clusters["a"], topic, b"0")
    async with running(config_of(clusters, topics=topic, ottla_retry_backoff_max_ms="500")) as process:
        await read_all(clusters["b"], f"a.{topic}", 0, 1)
        copier = await copier_of(process, topic)
        with disks.failing(clusters["b"].directory / "node-1" / f"a.{topic}-0"):
            position = copier.task.position
            await produce(clusters["a"], topic, b"1")
            await until(lambda: copier.task.position != position, "it is safe in the journal of the node")
            await produce(clusters["a"], topic, b"2")
            await until(lambda: "disk" in copier.task.last_error, "it is told")
            assert copier.task.last_error.startswith("b: ")
        await asyncio.to_thread(clusters["b"].kill_node, 1)
        await asyncio.to_thread(clusters["b"].start_node, 1)
        assert values(await read_all(clusters["b"], f"a.{topic}", 0, 3)) == [b"0", b"1", b"2"]
        await until(lambda: not copier.task.last_error, "it is well again")
