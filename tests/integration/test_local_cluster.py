"""A cluster of three nodes as its user handles it: faults under load, single nodes, the background, its supervisor."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.testing.cluster import Cluster, ClusterError

WAIT_S = 60.0
PARTITIONS = 3
OFFSET_NOT_AVAILABLE = 78


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    return pytest.fail(f"not within {WAIT_S} s: {what}")


def ottla(*arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "ottla", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * WAIT_S)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


class Writer:
    """Writes numbers with acks=all until it is told to stop; keeps what was acknowledged."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": cluster.bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5}
        )
        self.acknowledged: list[int] = []
        self.errors: list[KafkaError] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)

    def goes_on(self) -> None:
        """Return when more was acknowledged than now."""
        count = len(self.acknowledged)
        until(lambda: len(self.acknowledged) > count + 10, "writes go on")

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.005):
            self._producer.produce(self._topic, str(number), on_delivery=self._delivered)
            self._producer.poll(0)
            number += 1
        assert self._producer.flush(WAIT_S) == 0

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        value = message.value()
        if error is not None:
            self.errors.append(error)
        elif value is not None:
            self.acknowledged.append(int(value))


def ends_of(consumer: Consumer, topic: str) -> dict[int, int]:
    """Nothing while a new leader does not know what is committed (OFFSET_NOT_AVAILABLE)."""
    try:
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), WAIT_S)[1] for p in range(PARTITIONS)}
    except KafkaException as error:
        if error.args[0].code() == OFFSET_NOT_AVAILABLE:
            return {}
        raise


def read_all(cluster: Cluster, topic: str) -> list[int]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"})
    try:
        ends = until(lambda: ends_of(consumer, topic), "the ends are known")
        consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        values: list[int] = []
        deadline = time.monotonic() + WAIT_S
        while len(values) < sum(ends.values()) and time.monotonic() < deadline:
            for message in consumer.consume(1000, 1.0):
                assert message.error() is None
                values.append(int(message.value() or b"-1"))
        return values
    finally:
        consumer.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("three"), nodes=3) as running:
        yield running


@pytest.fixture
def topic(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    name: str = request.node.name
    for _ in range(4):  # a client that met no controller once waits long until it asks again
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        created = admin.create_topics([NewTopic(name, PARTITIONS, 3)], operation_timeout=30, request_timeout=15)[name]
        try:
            created.result(WAIT_S)
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError._TIMED_OUT, KafkaError.TOPIC_ALREADY_EXISTS):
                raise
            if error.args[0].code() == KafkaError._TIMED_OUT:
                continue
        return name
    return pytest.fail("no topic could be created")


def is_whole(cluster: Cluster) -> bool:
    """Everybody is there and in sync."""
    standings = [node["standing"] for node in cluster.status()["nodes"]]
    return all(one and not one["fenced"] and not one["under_replicated"] for one in standings)


def test_nothing_acknowledged_is_lost_when_nodes_are_killed(cluster: Cluster, topic: str) -> None:
    with Writer(cluster, topic) as writer:
        writer.goes_on()
        for _ in range(2):
            killed = until(cluster.controller, "a controller")
            cluster.kill_node(killed)
            writer.goes_on()
            assert until(cluster.controller, "another controller") != killed
            cluster.start_node(killed)
            until(lambda: is_whole(cluster), "everybody is in sync")
            writer.goes_on()
    assert not writer.errors
    assert sorted(read_all(cluster, topic)) == sorted(writer.acknowledged)


def test_nodes_stop_start_pause_and_resume_under_load(cluster: Cluster, topic: str) -> None:
    before = {node["id"]: node for node in cluster.status()["nodes"]}

    def state(number: int) -> str:
        states: dict[int, str] = {node["id"]: node["state"] for node in cluster.status()["nodes"]}
        return states[number]

    with Writer(cluster, topic) as writer:
        writer.goes_on()
        cluster.stop_node(2)
        assert state(2) == "stopped"
        assert not psutil.pid_exists(before[2]["pid"])
        cluster.stop_node(2)  # it is true already
        writer.goes_on()
        cluster.start_node(2)
        after = {node["id"]: node for node in cluster.status()["nodes"]}[2]
        assert [after[key] for key in ("kafka", "grpc", "http", "dir")] == [
            before[2][key] for key in ("kafka", "grpc", "http", "dir")
        ]
        assert after["pid"] != before[2]["pid"]
        until(lambda: is_whole(cluster), "everybody is in sync")
        cluster.pause_node(3)
        assert psutil.Process(before[3]["pid"]).status() == psutil.STATUS_STOPPED
        assert state(3) == "paused"
        with pytest.raises(ClusterError, match="`ottla node resume 3`"):
            cluster.start_node(3)
        writer.goes_on()
        cluster.resume_node(3)
        assert state(3) == "running"
        until(lambda: is_whole(cluster), "everybody is in sync")
    assert not writer.errors
    assert sorted(read_all(cluster, topic)) == sorted(writer.acknowledged)


def test_wrong_commands_are_told(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="there is no node 4: this cluster has 1, 2, 3"):
        cluster.stop_node(4)
    assert "a cluster runs in" in ottla("up", "--dir", cluster.directory, code=1)


def test_a_cluster_that_was_killed_comes_back_where_it_was(cluster: Cluster, topic: str) -> None:
    with Writer(cluster, topic) as writer:
        writer.goes_on()
    where = cluster.bootstrap
    cluster.kill()
    cluster.start()
    assert cluster.bootstrap == where
    assert sorted(read_all(cluster, topic)) == sorted(writer.acknowledged)


def test_a_busy_cluster_stops_at_once(cluster: Cluster, topic: str) -> None:
    with Writer(cluster, topic) as writer:
        writer.goes_on()
        began = time.monotonic()
        ottla("down", "--dir", cluster.directory)
        stopped_s = time.monotonic() - began
        cluster.restart()
        writer.goes_on()
    assert not writer.errors
    assert stopped_s < 10  # below 2 s on a quiet machine
    assert sorted(read_all(cluster, topic)) == sorted(writer.acknowledged)


def test_status_tells_of_every_node(cluster: Cluster, topic: str) -> None:
    until(lambda: is_whole(cluster), "everybody is in sync")
    found = json.loads(ottla("status", "--dir", cluster.directory, "--json"))
    assert found["bootstrap"] == cluster.bootstrap
    assert [node["id"] for node in found["nodes"]] == [1, 2, 3]
    assert {node["state"] for node in found["nodes"]} == {"running"}
    standings = [node["standing"] for node in found["nodes"]]
    assert sorted(one["role"] for one in standings) == ["leader", "voter", "voter"]
    assert sum(one["led"] for one in standings) >= PARTITIONS
    assert all(node["per_second"]["received_bytes"] is not None for node in found["nodes"])
    table = ottla("status", "--dir", cluster.directory)
    assert "controller" in table
    assert table.count("running") == 3


def test_the_cluster_describes_its_nodes(cluster: Cluster) -> None:
    server = cluster.grpc.split(",")[0]
    found = json.loads(ottla("cluster", "describe", "--server", server, "--json"))
    assert [node["state"] for node in found["nodes"]] == ["active"] * 3
    assert found["controller"] == cluster.controller()
    assert all(node["replication"].startswith("127.0.0.1:") for node in found["nodes"])


def test_commands_find_the_cluster_of_the_directory_whichever_node_is_down(
    cluster: Cluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTTLA_SERVER", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("ottla-data").symlink_to(cluster.directory.absolute())
    cluster.kill_node(1)  # the one that clients ask first
    try:
        assert topic in ottla("topic", "list", "--timeout", WAIT_S)
    finally:
        cluster.start_node(1)


def test_metrics_and_health_tell_of_replication(cluster: Cluster, topic: str) -> None:
    with Writer(cluster, topic) as writer:
        writer.goes_on()
    until(lambda: is_whole(cluster), "everybody is in sync")
    texts = []
    for node in cluster.status()["nodes"]:
        with urllib.request.urlopen(f"http://{node['http']}/metrics", timeout=WAIT_S) as answer:
            texts.append(answer.read().decode())
        with urllib.request.urlopen(f"http://{node['http']}/health", timeout=WAIT_S) as answer:
            health = json.load(answer)
        assert (health["status"], health["fenced"]) == ("ok", False)
        assert (health["role"] == "leader") == (health["controller"] == node["id"])
    assert sum("\nottla_is_controller 1.0\n" in text for text in texts) == 1
    assert all("\nottla_under_replicated_partitions 0.0\n" in text for text in texts)
    assert all("\nottla_leaderless_partitions 0.0\n" in text for text in texts)
    assert any('\nottla_led_partitions{isr="3"} ' in text for text in texts)
    assert any('\nottla_follower_max_lag_records{follower="' in text for text in texts)
    assert any("\nottla_replication_sent_bytes_total 0.0\n" not in text for text in texts)


def test_a_cluster_in_the_background(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    told = ottla("up", "--detach", "--json", "--nodes", 1, "--port", 0, "--dir", directory)
    starting, ready = map(json.loads, told.splitlines())
    assert (starting["event"], ready["event"]) == ("starting", "ready")
    [node] = ready["nodes"]
    assert f"`ottla down --dir {directory}` stops it" in ottla("up", "--detach", "--dir", directory, code=1)
    assert "ready" in (directory / "nodes.log").read_text()
    assert (directory / "control.sock").stat().st_mode & 0o777 == 0o600
    ottla("node", "kill", 1, "--dir", directory)
    ottla("node", "start", 1, "--dir", directory)
    assert "node 1 is ready again" in ottla("node", "restart", 1, "--dir", directory)
    [again] = json.loads(ottla("status", "--json", "--dir", directory))["nodes"]
    assert (again["kafka"], again["state"]) == (node["kafka"], "running")
    ottla("down", "--dir", directory)
    assert not psutil.pid_exists(again["pid"])
    assert "No cluster runs" in ottla("down", "--dir", directory)
    assert "no cluster runs" in ottla("status", "--dir", directory, code=1)


def test_a_start_in_the_background_that_fails_says_why(tmp_path: Path) -> None:
    told = ottla("up", "--detach", "--port", 0, "--dir", tmp_path / "a", "--set", "listeners=nonsense", code=2)
    assert "listeners" in told


def test_nodes_end_with_their_supervisor_and_its_socket_is_known_to_be_stale(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data", nodes=1).start()
    assert cluster._process is not None
    cluster._process.kill()
    cluster._process.wait()
    until(lambda: not psutil.pid_exists(cluster.node_pids[0]) or _is_zombie(cluster.node_pids[0]), "the node ends")
    assert (cluster.directory / "control.sock").exists()
    assert "no cluster runs" in ottla("status", "--dir", cluster.directory, code=1)
    assert cluster._process.stdout is not None
    cluster._process.stdout.close()
    cluster._process = None
    cluster.start()
    cluster.stop()


def test_a_node_that_ends_by_itself_is_told_and_can_be_started_again(cluster: Cluster) -> None:
    log = cluster.log_size()
    os.kill(cluster.node_pids[0], signal.SIGKILL)
    until(lambda: "node 1 ended (killed by SIGKILL)" in cluster.log_tail(start=log), "the end is told")
    assert [node["state"] for node in cluster.status()["nodes"]] == ["killed", "running", "running"]
    cluster.start_node(1)
    until(lambda: is_whole(cluster), "everybody is in sync")


def _is_zombie(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
