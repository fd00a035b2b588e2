"""Consumers whose connections close, with librdkafka: killed ones are replaced soon, others come back in time."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.testing.cluster import Cluster

pytestmark = pytest.mark.confluent_consumer

PARTITIONS = 4
WAIT_S = 40.0
SESSION_MS = 12_000
PATIENCE_S = SESSION_MS / 3 / 1000
PROTOCOLS: dict[str, dict[str, Any]] = {
    "classic": {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 2_000},
    "consumer": {"group.protocol": "consumer"},
}
MEMBER = """
import json, sys
from confluent_kafka import Consumer
settings = json.loads(sys.argv[1])
consumer = Consumer(settings)
consumer.subscribe([sys.argv[2]])
while True:
    consumer.poll(1)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(settings={"group.consumer.session.timeout.ms": SESSION_MS}) as cluster:
        yield cluster


@pytest.fixture
def topic(cluster: Cluster) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, num_partitions=PARTITIONS)])[name].result(WAIT_S)
    return name


def settings_of(cluster: Cluster, group: str, protocol: str, instance: str | None) -> dict[str, Any]:
    found = {"bootstrap.servers": cluster.bootstrap, "group.id": group, "log_level": 0, **PROTOCOLS[protocol]}
    return found if instance is None else {**found, "group.instance.id": instance}


class Reader:
    """A member in this process, and how often its partitions changed."""

    def __init__(self, cluster: Cluster, group: str, protocol: str, topic: str, instance: str | None = None) -> None:
        self.changes = 0
        self.consumer = confluent_kafka.Consumer(settings_of(cluster, group, protocol, instance))
        self.consumer.subscribe([topic], on_assign=self._changed, on_revoke=self._changed, on_lost=self._changed)

    def _changed(self, consumer: Any, partitions: list[Any]) -> None:
        self.changes += 1

    @property
    def count(self) -> int:
        return len(self.consumer.assignment())


def until(condition: Callable[[], bool], readers: list[Reader], what: str, within_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}; {[one.count for one in readers]}"
        for reader in readers:
            reader.consumer.poll(0.02)


def test_killed_members_are_replaced_before_their_session_ends_and_static_ones_are_not(
    cluster: Cluster, topic: str
) -> None:
    dynamic: list[Reader] = []
    static: list[Reader] = []
    others: list[subprocess.Popen[bytes]] = []
    try:
        for protocol in PROTOCOLS:
            for instance, readers in ((None, dynamic), ("killed", static)):
                group = f"group-{uuid.uuid4().hex[:8]}"
                readers.append(Reader(cluster, group, protocol, topic, instance and "stays"))
                given = settings_of(cluster, group, protocol, instance)
                others.append(subprocess.Popen([sys.executable, "-c", MEMBER, json.dumps(given), topic]))
        readers = dynamic + static
        until(lambda: all(one.count == PARTITIONS // 2 for one in readers), readers, "each pair shares")
        for other in others:
            other.send_signal(signal.SIGKILL)
        within_s = SESSION_MS / 1000 - 2.5
        until(lambda: all(one.count == PARTITIONS for one in dynamic), readers, "they have all", within_s)
        assert [one.count for one in static] == [PARTITIONS // 2] * 2
        assert cluster.log_path.read_text().count("its connection closed") == 2
    finally:
        for other in others:
            other.kill()
            other.wait()
        for reader in dynamic + static:
            reader.consumer.close()


def test_member_that_connects_again_stays(cluster: Cluster, topic: str) -> None:
    readers: list[Reader] = []
    try:
        for protocol in PROTOCOLS:
            group = f"group-{uuid.uuid4().hex[:8]}"
            readers += [Reader(cluster, group, protocol, topic) for _ in range(2)]
        until(lambda: all(one.count == PARTITIONS // 2 for one in readers), readers, "each pair shares")
        changes = [one.changes for one in readers]
        said = cluster.log_path.read_text().count("its connection closed")
        assert cut(int(cluster.bootstrap.rpartition(":")[2])) >= len(readers)
        until_s = time.monotonic() + PATIENCE_S + 2
        until(lambda: time.monotonic() > until_s, readers, "time passes")
        assert [one.changes for one in readers] == changes
        assert cluster.log_path.read_text().count("its connection closed") == said
    finally:
        for reader in readers:
            reader.consumer.close()


def cut(port: int) -> int:
    """End this process's connections to that port, as a fault of the network would; how many there were."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # it is closed meanwhile, or not connected
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                count += _cut(int(name), port)
    return count


def _cut(descriptor: int, port: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.getpeername()[1] != port:
            return False
        found.shutdown(socket.SHUT_RDWR)
        return True
