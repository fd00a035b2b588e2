"""What a mirror does when one of its clusters denies it a right: `make mirror-denied`.

Ottla has no ACLs yet, so the cluster that denies is an Apache Kafka with its StandardAuthorizer (Java 17 or newer,
Maven once). Each right is taken away, and given back: the mirror must say which one is missing, on which side and of
what, neither lose nor repeat a record, not spin meanwhile, and go on by itself.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from bench.peers import kafka
from ottla.client import Admin, ConfigResource, OffsetAndMetadata, Producer, TopicPartition
from ottla.mirror.engine.copying import transactional_id
from ottla.mirror.engine.process import MirrorProcess
from ottla.testing.cluster import Cluster
from tests.integration.mirror_rig import (
    Server,
    config_of,
    door,
    ottla_mirror,
    read_all,
    running,
    until,
    write_properties,
)

pytestmark = pytest.mark.timeout(300)

ANYBODY = "User:ANONYMOUS"  # as whom Kafka knows who comes without TLS
TO_WHOM = f"to {ANYBODY}: allow it by an ACL there"
SETTINGS = (
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found=true",
    "auto.create.topics.enable=false",
    "offsets.topic.num.partitions=4",
    "transaction.state.log.num.partitions=4",
)
LOOK_S = 3.0
MOST_CPU_S = 1.0  # in LOOK_S, with all that is in this process
MOST_LINES = 3  # of the log, in LOOK_S


class Rights:
    """The ACLs of a Kafka cluster."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    @contextmanager
    def without(self, operation: AclOperation, kind: ResourceType, name: str) -> Iterator[None]:
        """All else stays allowed: of a resource that has an ACL, what none allows is denied."""
        try:
            self._allow(AclPermissionType.ALLOW, AclOperation.ALL, kind, name)
            self._allow(AclPermissionType.DENY, operation, kind, name)
            yield
        finally:
            self._forget(kind, name)

    def _allow(self, permission: AclPermissionType, operation: AclOperation, kind: ResourceType, name: str) -> None:
        acl = AclBinding(kind, name, ResourcePatternType.LITERAL, ANYBODY, "*", operation, permission)
        for done in self._admin.create_acls([acl]).values():
            done.result(30)

    def _forget(self, kind: ResourceType, name: str) -> None:
        every = AclBindingFilter(
            kind, name, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        for done in self._admin.delete_acls([every]).values():
            done.result(30)


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    with kafka(settings=SETTINGS, heap="400m") as started:
        yield started.cluster


@pytest.fixture(scope="module")
def rights(strict: Server) -> Rights:
    return Rights(strict.bootstrap)


@pytest.fixture(scope="module")
def liberal() -> Iterator[Server]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def from_kafka(strict: Server, liberal: Server) -> dict[str, Server]:
    return {"a": strict, "b": liberal}


@pytest.fixture
def to_kafka(strict: Server, liberal: Server) -> dict[str, Server]:
    return {"a": liberal, "b": strict}


async def new_topic(cluster: Server, **configs: str) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    async with Admin(**door(cluster)) as admin:
        await admin.create_topic(name, 1, configs={key.replace("_", "."): value for key, value in configs.items()})
    return name


async def produce(cluster: Server, topic: str, *values: bytes) -> None:
    async with Producer(**door(cluster)) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, key=value)


async def copies(cluster: Server, topic: str, count: int) -> list[bytes | None]:
    return [value for _, value in await read_all(cluster, topic, 0, count)]


def error_of(process: MirrorProcess, topic: str) -> str:
    copier = process.flows["a->b"].copiers.get(TopicPartition(topic, 0))
    return "" if copier is None else copier.task.last_error


def troubles_of(process: MirrorProcess, kind: str) -> Mapping[str, str]:
    return process.flows["a->b"].troubles.all().get(kind, {})


@asynccontextmanager
async def quiet(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """What is in the block is done while the mirror is watched: it neither spins nor fills the log."""
    began, cpu_s, lines = time.monotonic(), time.process_time(), len(_said(caplog))
    yield
    await asyncio.sleep(max(0.0, LOOK_S - (time.monotonic() - began)))
    took = (time.process_time() - cpu_s) / ((time.monotonic() - began) / LOOK_S)
    assert took < MOST_CPU_S, f"{took:.2f} s of processor time in {LOOK_S} s"
    said = _said(caplog)[lines:]
    assert len(said) <= MOST_LINES, "\n".join(said)


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


async def test_a_source_that_denies_reading_one_topic_is_told_and_the_others_are_copied(
    from_kafka: dict[str, Server], rights: Rights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = from_kafka["a"], from_kafka["b"]
    closed, other = await new_topic(source), await new_topic(source)
    topics = f"{closed},{other}"
    settings = {"topics": topics, "ottla_retry_backoff_max_ms": "1000"}
    file = write_properties(tmp_path / "mm2.properties", from_kafka, **settings)
    reason = f"a denies Read on topic {closed} {TO_WHOM}"
    await produce(source, closed, b"0")
    async with running(config_of(from_kafka, **settings)) as process:
        assert await copies(target, f"a.{closed}", 1) == [b"0"]
        with rights.without(AclOperation.READ, ResourceType.TOPIC, closed):
            await produce(source, closed, b"1")
            await until(lambda: reason in error_of(process, closed), "it is told")
            async with quiet(caplog):
                await produce(source, other, b"x", b"y")
                assert await copies(target, f"a.{other}", 2) == [b"x", b"y"]

            async def is_in_status() -> bool:
                _, out, _ = await ottla_mirror("status", file, "--json")
                errors = {one["topic"]: one["last_error"] for one in json.loads(out)[0]["partitions"]}
                return errors.get(other) is None and reason in (errors.get(closed) or "")

            await until(is_in_status, "it is in the status")
            assert caplog.text.count(reason) == 1
        assert await copies(target, f"a.{closed}", 2) == [b"0", b"1"]
        await until(lambda: not error_of(process, closed), "it is well again")


async def test_a_topic_that_the_source_hides_is_told_from_one_that_is_not_there(
    from_kafka: dict[str, Server], rights: Rights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = from_kafka["a"], from_kafka["b"]
    topic = await new_topic(source)
    settings = {"topics": f"{topic},nowhere"}
    file = write_properties(tmp_path / "mm2.properties", from_kafka, **settings)
    await produce(source, topic, b"0")
    reason = f"a denies Describe on topic {topic} {TO_WHOM}"
    with rights.without(AclOperation.DESCRIBE, ResourceType.TOPIC, topic):
        async with running(config_of(from_kafka, **settings)) as process:
            await until(lambda: topic in troubles_of(process, "missing"), "it is told")
            assert reason in troubles_of(process, "missing")[topic]
            assert troubles_of(process, "missing")["nowhere"] == "a has no topic nowhere yet"
            async with quiet(caplog):
                _, out, _ = await ottla_mirror("status", file, "--json")
            assert reason in json.loads(out)[0]["missing"][topic]
            rights._forget(ResourceType.TOPIC, topic)
            assert await copies(target, f"a.{topic}", 1) == [b"0"]


async def test_configs_that_the_source_hides_are_neither_guessed_nor_reset(
    from_kafka: dict[str, Server], rights: Rights, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy with the target's retention instead of compaction would lose what is to be kept."""
    source, target = from_kafka["a"], from_kafka["b"]
    old, new = await new_topic(source, cleanup_policy="compact"), await new_topic(source, cleanup_policy="compact")
    config = config_of(from_kafka, topics=f"{old},{new}", sync_topic_configs_interval_seconds="1")

    async def policy_of(topic: str) -> str | None:
        async with Admin(**door(target)) as admin:
            [configs] = (await admin.describe_configs([ConfigResource.topic(f"a.{topic}")])).values()
            return configs["cleanup.policy"].value

    denied = (AclOperation.DESCRIBE_CONFIGS, ResourceType.TOPIC)
    with rights.without(*denied, new):
        async with running(config) as process:
            await produce(source, old, b"0")
            assert await copies(target, f"a.{old}", 1) == [b"0"]
            with rights.without(*denied, old):
                await until(lambda: old in troubles_of(process, "configs"), "it is told")
                await until(lambda: new in troubles_of(process, "topic"), "it is told")
                for topic, told in ((old, troubles_of(process, "configs")), (new, troubles_of(process, "topic"))):
                    assert f"a denies DescribeConfigs on topic {topic} {TO_WHOM}" in told[topic]
                async with quiet(caplog):
                    assert await policy_of(old) == "compact"
                async with Admin(**door(target)) as admin:
                    assert f"a.{new}" not in {one.name for one in await admin.list_topics()}
            rights._forget(ResourceType.TOPIC, new)
            await produce(source, new, b"1")
            assert await copies(target, f"a.{new}", 1) == [b"1"]
            assert await policy_of(new) == "compact"
            await until(lambda: not troubles_of(process, "configs"), "it is well again")


async def test_a_group_that_the_source_hides_is_told(from_kafka: dict[str, Server], rights: Rights) -> None:
    source = from_kafka["a"]
    group = f"group-{uuid.uuid4().hex[:8]}"
    topic = await new_topic(source)
    async with Admin(**door(source)) as admin:
        await admin.alter_group_offsets(group, {TopicPartition(topic, 0): OffsetAndMetadata(0)})
    with rights.without(AclOperation.DESCRIBE, ResourceType.GROUP, group):
        async with running(config_of(from_kafka, topics=topic, groups=group)) as process:
            await until(lambda: group in troubles_of(process, "group"), "it is told")
            assert f"a denies Describe on group {group} {TO_WHOM}" in troubles_of(process, "group")[group]
            rights._forget(ResourceType.GROUP, group)
            await until(lambda: not troubles_of(process, "group"), "it is seen")


async def test_a_target_that_denies_the_creation_of_a_copy_is_told(
    to_kafka: dict[str, Server], rights: Rights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = to_kafka["a"], to_kafka["b"]
    topic, other = await new_topic(source), await new_topic(source)
    settings = {"topics": f"{topic},{other}"}
    file = write_properties(tmp_path / "mm2.properties", to_kafka, **settings)
    await produce(source, topic, b"0")
    await produce(source, other, b"x")
    reason = f"b denies Create on topic a.{topic} {TO_WHOM}"
    create = AclOperation.CREATE
    # Whoever may create in the cluster may create any topic.
    with rights.without(create, ResourceType.BROKER, "kafka-cluster"):
        async with running(config_of(to_kafka, **settings)) as process:
            with rights.without(create, ResourceType.TOPIC, f"a.{topic}"):
                await until(lambda: topic in troubles_of(process, "topic"), "it is told")
                assert reason in troubles_of(process, "topic")[topic]
                assert await copies(target, f"a.{other}", 1) == [b"x"]
                async with quiet(caplog):
                    pass

                async def is_in_status() -> bool:
                    _, out, _ = await ottla_mirror("status", file, "--json")
                    return reason in json.loads(out)[0]["troubles"].get("topic", {}).get(topic, "")

                await until(is_in_status, "it is in the status")
                _, out, _ = await ottla_mirror("status", file)
                assert f"b denies Create on topic a.{topic}" in " ".join(out.split())
            assert await copies(target, f"a.{topic}", 1) == [b"0"]


@pytest.mark.parametrize("what", ["copy", "transactional id", "progress"])
async def test_a_target_that_denies_writing_is_told_and_nothing_is_lost(
    to_kafka: dict[str, Server], rights: Rights, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    source, target = to_kafka["a"], to_kafka["b"]
    topic, other = await new_topic(source), await new_topic(source)
    settings = {"topics": f"{topic},{other}", "ottla_retry_backoff_max_ms": "1000"}
    await produce(source, topic, b"0")
    async with running(config_of(to_kafka, **settings)) as process:
        assert await copies(target, f"a.{topic}", 1) == [b"0"]
        copier = process.flows["a->b"].copiers[TopicPartition(topic, 0)]
        kind, name = {
            "copy": (ResourceType.TOPIC, f"a.{topic}"),
            "transactional id": (ResourceType.TRANSACTIONAL_ID, transactional_id(copier.task.map_id)),
            "progress": (ResourceType.TOPIC, "ottla-mirror-progress.internal"),
        }[what]
        resource = "topic" if kind is ResourceType.TOPIC else "transactional id"
        reason = f"b denies Write on {resource} {name} {TO_WHOM}"
        with rights.without(AclOperation.WRITE, kind, name):
            await produce(source, topic, b"1", b"2")
            await until(lambda: reason in error_of(process, topic), "it is told")
            async with quiet(caplog):
                if what != "progress":
                    await produce(source, other, b"x", b"y")
                    assert await copies(target, f"a.{other}", 2) == [b"x", b"y"]
        assert await copies(target, f"a.{topic}", 3) == [b"0", b"1", b"2"]
        await until(lambda: not error_of(process, topic), "it is well again")


async def test_a_target_that_denies_the_group_of_mirrors_is_told(
    to_kafka: dict[str, Server], rights: Rights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = to_kafka["a"], to_kafka["b"]
    topic = await new_topic(source)
    file = write_properties(tmp_path / "mm2.properties", to_kafka, topics=topic)
    await produce(source, topic, b"0")
    reason = f"b denies Read on group ottla-mirror {TO_WHOM}"
    async with running(config_of(to_kafka, topics=topic)) as process:
        assert await copies(target, f"a.{topic}", 1) == [b"0"]
        with rights.without(AclOperation.READ, ResourceType.GROUP, "ottla-mirror"):
            await until(lambda: reason in troubles_of(process, "share").get("", ""), "it is told")
            await produce(source, topic, b"1")
            async with quiet(caplog):
                pass

            async def is_in_status() -> bool:
                _, out, _ = await ottla_mirror("status", file)
                return reason in " ".join(out.split())

            await until(is_in_status, "it is in the status")
        async with asyncio.timeout(30):  # which is sooner than the session ends that it could not leave (45 s)
            assert await copies(target, f"a.{topic}", 2) == [b"0", b"1"]
        await until(lambda: not troubles_of(process, "share"), "it is well again")


async def test_a_group_that_the_target_denies_holds_up_no_other(
    to_kafka: dict[str, Server], rights: Rights, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = to_kafka["a"], to_kafka["b"]
    topic = await new_topic(source)
    closed, other = (f"group-{name}-{uuid.uuid4().hex[:8]}" for name in ("a", "b"))
    await produce(source, topic, b"0", b"1")
    copy = TopicPartition(f"a.{topic}", 0)
    async with Admin(**door(source)) as admin:
        for group in (closed, other):
            await admin.alter_group_offsets(group, {TopicPartition(topic, 0): OffsetAndMetadata(1)})

    async def moved(group: str) -> bool:
        async with Admin(**door(target)) as admin:
            return copy in await admin.list_group_offsets(group)

    settings = {"topics": topic, "groups": f"{closed},{other}", "sync_group_offsets_enabled": "true"}
    with rights.without(AclOperation.READ, ResourceType.GROUP, closed):
        async with running(config_of(to_kafka, **settings)) as process:
            await until(lambda: closed in troubles_of(process, "group"), "it is told")
            assert f"b denies Read on group {closed} {TO_WHOM}" in troubles_of(process, "group")[closed]
            await until(lambda: moved(other), "the other group is moved")
            async with quiet(caplog):
                assert not await moved(closed)
            rights._forget(ResourceType.GROUP, closed)
            await until(lambda: moved(closed), "it is moved")


async def test_a_progress_topic_that_cannot_be_read_ends_commands_with_the_reason(
    to_kafka: dict[str, Server], rights: Rights, tmp_path: Path
) -> None:
    source, target = to_kafka["a"], to_kafka["b"]
    topic = await new_topic(source)
    await produce(source, topic, b"0")
    file = write_properties(tmp_path / "mm2.properties", to_kafka, topics=topic)
    async with running(config_of(to_kafka, topics=topic)):
        await copies(target, f"a.{topic}", 1)
    progress = "ottla-mirror-progress.internal"
    with rights.without(AclOperation.READ, ResourceType.TOPIC, progress):
        for command in ("status", "run"):
            code, _, errors = await ottla_mirror(command, file)
            assert code == 1
            assert f"b denies Read on topic {progress} {TO_WHOM}" in errors
            assert "Traceback" not in errors
