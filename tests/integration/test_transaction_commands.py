"""`ottla txn` and `ottla explain lso` on three real nodes."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ottla.client import ProducerFenced, TopicPartition
from ottla.client.sync import Admin, Consumer, Producer
from ottla.testing.cluster import Cluster

WAIT_S = 40.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def topic(cluster: Cluster) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    with Admin(bootstrap_servers=cluster.grpc) as admin:
        admin.create_topic(name, 2)
    return name


@pytest.fixture
def producer(cluster: Cluster, topic: str) -> Iterator[Producer[bytes, bytes]]:
    """Has a transaction open, which holds offset 1 of partition 1."""
    settings: Any = {"bootstrap_servers": cluster.grpc, "transactional_id": f"txn-{topic}"}
    with Producer(**settings) as producer:
        with producer.transaction() as transaction:
            transaction.send(topic, b"committed", partition=0)
        producer.begin_transaction()
        producer.send(topic, b"open", partition=1).result(WAIT_S)
        yield producer


def ottla(cluster: Cluster, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "ottla.cli", *arguments, "--server", cluster.grpc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def ottla_json(cluster: Cluster, *arguments: str) -> Any:
    return json.loads(ottla(cluster, *arguments, "--json"))


def stable_end(cluster: Cluster, partition: TopicPartition) -> int:
    with Consumer(bootstrap_servers=cluster.grpc, isolation_level="read_committed") as consumer:
        return consumer.end_offsets([partition])[partition]


def test_what_is_open_is_listed_described_and_explained(
    cluster: Cluster, topic: str, producer: Producer[bytes, bytes]
) -> None:
    name = f"txn-{topic}"
    listed = {one["transactional_id"]: one for one in ottla_json(cluster, "txn", "list", "--state", "Ongoing")}
    assert name in listed
    assert name not in ottla(cluster, "txn", "list", "--longer-than", "1h")
    [found] = ottla_json(cluster, "txn", "describe", name)
    assert (found["state"], found["partitions"]) == ("Ongoing", [[topic, 1]])
    assert found["producer"] == listed[name]["producer"]
    assert 0 <= time.time() - found["start_time_ms"] / 1000 < WAIT_S
    explained = ottla_json(cluster, "explain", "lso", f"{topic}:1")
    assert (explained["last_stable_offset"], explained["high_watermark"]) == (0, 1)
    assert (explained["transactional_id"], explained["state"]) == (name, "Ongoing")
    assert f"ottla txn abort {name}" in explained["advice"]
    assert name in ottla(cluster, "explain", "lso", f"{topic}:1")
    assert not ottla_json(cluster, "explain", "lso", f"{topic}:0")["held"]
    # It is old enough, but its coordinator knows it.
    assert ottla_json(cluster, "txn", "find-hanging", "--topic", topic, "--max-age", "0s") == []


def test_an_abort_by_name_frees_the_readers_and_fences_the_producer(
    cluster: Cluster, topic: str, producer: Producer[bytes, bytes]
) -> None:
    partition = TopicPartition(topic, 1)
    assert stable_end(cluster, partition) == 0
    ottla(cluster, "txn", "abort", f"txn-{topic}")
    deadline = time.monotonic() + WAIT_S
    while stable_end(cluster, partition) < 2:  # the record and the marker
        assert time.monotonic() < deadline
    with pytest.raises(ProducerFenced):
        producer.commit_transaction()


def test_an_abort_by_offset_writes_a_marker_into_that_partition(
    cluster: Cluster, topic: str, producer: Producer[bytes, bytes]
) -> None:
    at = ("txn", "abort", "--partition", f"{topic}:1", "--start-offset")
    assert "no open transaction begins at offset 5" in ottla(cluster, *at, "5", code=1)
    ottla(cluster, *at, "0")
    assert stable_end(cluster, TopicPartition(topic, 1)) == 2
    assert not ottla_json(cluster, "explain", "lso", f"{topic}:1")["held"]


def test_what_is_not_there_is_told(cluster: Cluster, topic: str) -> None:
    assert "TRANSACTIONAL_ID_NOT_FOUND" in ottla(cluster, "txn", "describe", topic, code=4)
    assert "UNKNOWN_TOPIC_OR_PARTITION" in ottla(cluster, "explain", "lso", f"{topic}:7", code=4)


def test_lines_are_written_in_one_transaction_or_not_at_all(cluster: Cluster, topic: str) -> None:
    def produce(lines: str, code: int) -> str:
        command = [sys.executable, "-m", "ottla.cli", "produce", topic, "--partition", "0", "--server", cluster.grpc]
        command += ["--transactional-id", f"lines-{topic}", "--key-separator", ":"]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == code, done.stderr
        return done.stderr

    assert "line 2" in produce("a:1\nno separator\n", 2)
    produce("b:2\nc:3\n", 0)
    read = ("consume", topic, "--exit", "--partition", "0", "--isolation-level")
    assert ottla(cluster, *read, "read_committed").split() == ["2", "3"]
