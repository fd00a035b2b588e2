"""What the mirror's tests share: configurations, waiting, and both sides read whole."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from ottla.client import Admin, Consumer, TopicPartition
from ottla.client.settings import ConnectionSettings
from ottla.mirror.config import MirrorConfig, build_config
from ottla.mirror.engine.process import MirrorProcess
from ottla.mirror.operations.observing import Observer
from ottla.mirror.operations.verification import Verdict, verify

WAIT_S = 90.0


class Server(Protocol):
    """A cluster, Ottla or Apache Kafka, as far as it matters here."""

    @property
    def bootstrap(self) -> str:
        """Of its Kafka ports."""


def door(cluster: Server) -> ConnectionSettings:
    return {"bootstrap_servers": cluster.bootstrap, "protocol": "kafka"}


def values_of(clusters: Mapping[str, Server], **settings: str) -> dict[str, str]:
    """Names and values as in mm2.properties; `settings` with underscores for dots."""
    values = {
        "clusters": ",".join(clusters),
        "refresh.topics.interval.seconds": "1",
        "emit.heartbeats.enabled": "false",
    }
    values |= {"refresh.groups.interval.seconds": "1", "emit.checkpoints.interval.seconds": "1"}
    values |= {"sync.group.offsets.interval.seconds": "1"}
    values |= {f"{alias}.bootstrap.servers": cluster.bootstrap for alias, cluster in clusters.items()}
    return values | {name.replace("_", "."): value for name, value in settings.items()}


def config_of(clusters: Mapping[str, Server], flows: str = "a->b", **settings: str) -> MirrorConfig:
    """Flows, divided by commas, that are all set alike."""
    values = values_of(clusters, **settings)
    return build_config({**values, **{f"{flow}.enabled": "true" for flow in flows.split(",")}})


def write_properties(path: Path, clusters: Mapping[str, Server], flow: str = "a->b", **settings: str) -> Path:
    """The same as an mm2.properties with one flow."""
    values = {**values_of(clusters, **settings), f"{flow}.enabled": "true"}
    path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
    return path


async def until(condition: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    """Asks again and again; fails after `WAIT_S`."""
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = condition()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {WAIT_S:.0f} s: {what}") from None


async def read_all(cluster: Server, topic: str, partition: int, count: int) -> list[tuple[int, bytes | None]]:
    """Offset and value of the committed records, when there are `count`; and those that follow at once."""
    found: list[tuple[int, bytes | None]] = []
    at = TopicPartition(topic, partition)
    async with Admin(**door(cluster)) as admin:

        async def is_there() -> bool:
            return any(one.name == topic and one.num_partitions > partition for one in await admin.list_topics())

        await until(is_there, f"{topic}-{partition} is there")
    async with Consumer(**door(cluster), isolation_level="read_committed", auto_offset_reset="earliest") as consumer:
        consumer.assign([at])
        try:
            async with asyncio.timeout(WAIT_S):
                while len(found) < count:
                    for records in (await consumer.poll(500)).values():
                        found += [(one.offset, one.value) for one in records]
        except TimeoutError:
            raise AssertionError(f"{len(found)} of {count} records in {topic}-{partition}") from None
        for records in (await consumer.poll(300)).values():
            found += [(one.offset, one.value) for one in records]
    return found


async def verified(config: MirrorConfig, topic: str) -> list[Verdict]:
    """Every partition of a topic compared, by the first flow."""
    flow = config.flows[0]
    async with Observer(config, [flow]) as observer:
        source, target = observer.sides[flow.source], observer.sides[flow.target]
        verdicts = []
        for index in range(len(source.topics[topic].partitions)):
            copied = observer.copy_of(flow, TopicPartition(topic, index))
            if copied is not None:
                copy = TopicPartition(flow.remote_topic(topic), index)
                verdicts.append(
                    await verify(source, target, TopicPartition(topic, index), copy, copied, compacted=False)
                )
        return verdicts


async def ottla_mirror(*words: object) -> tuple[int | None, str, str]:
    """Exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ottla.cli", "mirror", *map(str, words)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), WAIT_S)
    return process.returncode, out.decode(), errors.decode()


class MirrorCommand:
    """`ottla mirror run` as a process of its own."""

    def __init__(self, file: Path) -> None:
        self._command = [sys.executable, "-m", "ottla.cli", "mirror", "run", str(file), "--json"]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return when it is ready."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first and json.loads(first)["event"] == "ready", f"it ended with {self.process.poll()}"

    def kill(self) -> None:
        """As `kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def stop(self) -> int:
        """As Ctrl-C; the exit code."""
        assert self.process is not None
        self.process.terminate()
        self.process.communicate(timeout=WAIT_S)
        code, self.process = self.process.returncode, None
        return code


@asynccontextmanager
async def running(config: MirrorConfig) -> AsyncIterator[MirrorProcess]:
    """A mirror in this process."""
    async with MirrorProcess(config) as process:
        yield process
