"""`python -m bench.mirror` (`make bench-mirror`): our mirror beside MirrorMaker 2, between the same two clusters.

For each of the two in turn: a topic of 1 KiB records is copied whole (throughput, processor time and memory of the
mirror's process; from the command to the first and to the last copy), then 1,000 records a second are written and read
on the other side. Ours writes in transactions and is read with read_committed; MirrorMaker 2 runs as it comes, at least
once. Needs Java 17 or newer, and Maven once. `--mirrors ottla,exact`: ours in transactions beside our byte-exact link.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench import costs, peers
from bench.cluster import Cluster
from bench.quantiles import quantile
from ottla.node.founding import free_ports

HERE: Final = Path(__file__).parent
JARS: Final = HERE / ".cache" / "connect-mirror-libs"
LOG4J: Final = """<Configuration><Appenders><Console name="E" target="SYSTEM_ERR">
<PatternLayout pattern="%d %p %c: %m%n"/></Console></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="E"/></Root></Loggers></Configuration>
"""
PARTITIONS: Final = 6
PATIENCE_S: Final = 300.0
RATE: Final = 1_000

Run = tuple["subprocess.Popen[bytes]", float]  # a mirror's process, and when its command was typed (`time.time()`)


def main() -> int:
    """Print a line for each figure; JSON with --json."""
    options = argparse.ArgumentParser(prog="python -m bench.mirror", description=__doc__.splitlines()[0])
    options.add_argument("--megabytes", type=int, default=400, help="of records in the topic that is copied")
    options.add_argument("--record-bytes", type=int, default=1024)
    options.add_argument("--seconds", type=float, default=20, help="how long the lag is measured; 0: not at all")
    options.add_argument("--compression", default="none")
    options.add_argument("--clusters", choices=("ottla", "kafka"), default="ottla", help="what is mirrored")
    options.add_argument("--mirrors", default="ottla,mm2", help="of ottla, exact, mm2; one after the other")
    options.add_argument(
        "--round-trip-ms", type=float, default=0, help="between an Ottla source and the mirror; no lag then"
    )
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    mirrors = chosen.mirrors.split(",")
    if "exact" in mirrors and (chosen.round_trip_ms or chosen.clusters != "ottla"):
        options.error("an exact link is between two Ottla clusters, by gRPC, which is not made far here")
    results: list[dict[str, object]] = []
    for _ in range(chosen.rounds):
        for mirror in mirrors:
            with ExitStack() as stack:
                source = stack.enter_context(_source(chosen))
                target = stack.enter_context(_start(chosen)).cluster
                figures = measure(mirror, source, target, chosen)
            results.append({"mirror": mirror, **figures})
            if not chosen.json:
                print(mirror, *(f"{name} {value:,.3f}" for name, value in figures.items()), sep="\n    ", flush=True)
    if chosen.json:
        print(json.dumps(results))
    return 0


def measure(mirror: str, source: Cluster, target: Cluster, chosen: argparse.Namespace) -> dict[str, float]:
    topic = source.new_topic(PARTITIONS)
    count = fill(source, topic, chosen)
    remote = topic if mirror == "exact" else f"a.{topic}"
    if isinstance(source, FarCluster):
        source.way.send_signal(signal.SIGUSR1)
    brokers = source.cpu_s() + target.cpu_s()
    with RUNS[mirror](source, target, topic) as (process, typed_at):
        peak = Peak(process.pid)
        first_s = None
        while True:
            copied = copied_of(target, remote)
            if copied and first_s is None:
                first_s, first_cpu = time.time() - typed_at, costs.cpu_s(process.pid)
            if copied >= count:
                break
            if process.poll() is not None:
                raise RuntimeError(f"{mirror} ended with {process.returncode}")
            if time.time() - typed_at > PATIENCE_S:
                raise TimeoutError(f"{mirror}: {copied} of {count} records after {PATIENCE_S} s")
            time.sleep(0.02 if first_s is None else 0.1)
        assert first_s is not None
        last_s, cpu = time.time() - typed_at, costs.cpu_s(process.pid)
        brokers = source.cpu_s() + target.cpu_s() - brokers
        gigabytes = count * chosen.record_bytes / 1e9
        figures = {
            "first_copy_s": first_s,
            "copied_mb_per_s": gigabytes * 1e3 / (last_s - first_s),
            "cpu_s": cpu,
            "cpu_s_per_gb": (cpu - first_cpu) / gigabytes,
            "brokers_cpu_s_per_gb": brokers / gigabytes,
        }
        if not chosen.round_trip_ms and chosen.seconds:
            lags, idle_cpu = lag(source, target, topic, remote, process.pid, chosen.seconds)
            figures |= {
                "lag_p50_ms": quantile(lags, 0.5),
                "lag_p99_ms": quantile(lags, 0.99),
                "lag_max_ms": max(lags),
                "cpu_at_1000_per_s": idle_cpu,
            }
        peak.stop()
        _ADMINS.clear()  # else they go on looking for clusters that are gone
        return {**figures, "memory_mib": peak.mib}


def _start(chosen: argparse.Namespace) -> AbstractContextManager[peers.Started]:
    return peers.ottla() if chosen.clusters == "ottla" else peers.kafka()


@dataclass(kw_only=True)
class FarCluster(Cluster):
    """One that is reached through `way`, a process of `bench.far`."""

    way: "subprocess.Popen[bytes]"


@contextmanager
def _source(chosen: argparse.Namespace) -> Iterator[Cluster]:
    if not chosen.round_trip_ms:
        with _start(chosen) as started:
            yield started.cluster
        return
    port, near = free_ports("127.0.0.1", 2)
    listeners = {"listeners": near, "advertised_listeners": port}
    settings = tuple(f"{name}=PLAINTEXT://127.0.0.1:{at}" for name, at in listeners.items())
    with peers.ottla(settings=settings) as started:
        own = started.cluster
        command = [sys.executable, "-m", "bench.far", str(port), f"127.0.0.1:{near}", str(chosen.round_trip_ms)]
        way = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert way.stdout is not None
            if way.stdout.readline() != b"ready\n":
                raise RuntimeError("the long way does not stand")
            yield FarCluster(name=own.name, bootstrap=f"127.0.0.1:{port}", pids=own.pids, way=way, grpc=own.grpc)
        finally:
            way.kill()
            way.wait()


def fill(source: Cluster, topic: str, chosen: argparse.Namespace) -> int:
    count: int = chosen.megabytes * 1_000_000 // chosen.record_bytes
    producer = source.producer(**{"compression.type": chosen.compression, "batch.size": 16_384})
    value = os.urandom(chosen.record_bytes // 2) * 2  # compresses to about half
    for number in range(count):
        while True:
            try:
                producer.produce(topic, value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.01)
    if producer.flush(120):
        raise RuntimeError("the source does not take the records")
    return count


def copied_of(target: Cluster, remote: str) -> int:
    """Offsets of the copy that can be read; markers of transactions count, fewer than one in a hundred."""
    admin = _admin(target)
    asked = {TopicPartition(remote, index): OffsetSpec.latest() for index in range(PARTITIONS)}
    try:
        futures = admin.list_offsets(asked, request_timeout=10)
        return sum([int(future.result().offset) for future in futures.values()])

    except KafkaException:  # not there yet
        return 0


_ADMINS: dict[str, AdminClient] = {}


def _admin(cluster: Cluster) -> AdminClient:
    if cluster.bootstrap not in _ADMINS:
        _ADMINS[cluster.bootstrap] = cluster.admin()
    return _ADMINS[cluster.bootstrap]


def lag(
    source: Cluster, target: Cluster, topic: str, remote: str, pid: int, seconds: float
) -> tuple[list[float], float]:
    """Milliseconds from `produce` until a reader of the copy has the record; cores that the mirror took meanwhile."""
    consumer = target.consumer(
        **{"auto.offset.reset": "latest", "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
    )
    ends = [TopicPartition(remote, index, -1) for index in range(PARTITIONS)]  # from the end on
    consumer.assign(ends)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:  # until every partition is at its end
        consumer.poll(0.1)
    lags: list[float] = []
    stopped = threading.Event()

    def read() -> None:
        while not stopped.is_set():
            for message in consumer.consume(500, 0.05):
                value = message.value()
                if message.error() is None and value is not None and len(value) == 16:
                    lags.append((time.time_ns() // 1000 - int(value)) / 1e3)

    def write() -> None:
        producer = Producer({"bootstrap.servers": source.bootstrap, "acks": "all", "linger.ms": 1})
        begin, sent = time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            while sent < (time.monotonic() - begin) * RATE:
                producer.produce(topic, b"%016d" % (time.time_ns() // 1000), partition=sent % PARTITIONS)
                sent += 1
            producer.poll(0.001)
        producer.flush(30)

    reader = threading.Thread(target=read)
    reader.start()
    cpu = costs.cpu_s(pid)
    write()
    cpu = (costs.cpu_s(pid) - cpu) / seconds
    deadline = time.monotonic() + 10
    while len(lags) < seconds * RATE * 0.999 and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped.set()
    reader.join()
    consumer.close()
    if len(lags) < seconds * RATE * 0.9:
        raise RuntimeError(f"only {len(lags)} records came")
    return sorted(lags), cpu


class Peak:
    """The largest proportional set size of a process while it is watched."""

    def __init__(self, pid: int) -> None:
        self.mib = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid,))
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self, pid: int) -> None:
        while not self._stopped.wait(0.25):
            self.mib = max(self.mib, costs.pss_mib(pid))


def ottla_mirror(source: Cluster, target: Cluster, topic: str) -> AbstractContextManager[Run]:
    return _ottla_mirror(_properties(source, target, topic))


def exact_mirror(source: Cluster, target: Cluster, topic: str) -> AbstractContextManager[Run]:
    exact = [
        f"a.bootstrap.servers = {source.grpc}",
        f"b.bootstrap.servers = {target.grpc}",
        "a.ottla.protocol = grpc",
        "b.ottla.protocol = grpc",
        "ottla.exact = true",
    ]
    return _ottla_mirror([*_properties(source, target, topic), *exact])


@contextmanager
def _ottla_mirror(properties: list[str]) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="bench-mirror-") as directory:
        file = Path(directory, "mm2.properties")
        file.write_text("\n".join(properties) + "\n")
        with running_mirror(file) as run:
            yield run


@contextmanager
def running_mirror(file: Path) -> Iterator[Run]:
    """`ottla mirror run FILE`, with a log beside it."""
    with file.with_name("log").open("wb") as log:
        typed_at = time.time()
        command = [sys.executable, "-m", "ottla.cli", "mirror", "run", str(file)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        yield from _until_done(process, typed_at)


@contextmanager
def mirror_maker(source: Cluster, target: Cluster, topic: str) -> Iterator[Run]:
    fetch_jars()
    with tempfile.TemporaryDirectory(prefix="bench-mm2-") as directory:
        file = Path(directory, "mm2.properties")
        own = [
            "tasks.max = 6",
            "offset.storage.replication.factor = 1",
            "config.storage.replication.factor = 1",
            "status.storage.replication.factor = 1",
            "checkpoints.topic.replication.factor = 1",
            "heartbeats.topic.replication.factor = 1",
            "offset-syncs.topic.replication.factor = 1",
            "replication.factor = 1",
            "b->a.enabled = false",
            "dedicated.mode.enable.internal.rest = false",
        ]
        file.write_text("\n".join([*_properties(source, target, topic), *own]) + "\n")
        log4j = Path(directory, "log4j2.xml")
        log4j.write_text(LOG4J)
        with Path(directory, "log").open("wb") as log:
            typed_at = time.time()
            command = ["java", "-Xms256m", "-Xmx1g", "-XX:+UseG1GC", f"-Dlog4j2.configurationFile={log4j}"]
            command += ["-cp", f"{JARS}/*", "org.apache.kafka.connect.mirror.MirrorMaker", str(file)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
            yield from _until_done(process, typed_at)


def _until_done(process: subprocess.Popen[bytes], typed_at: float) -> Iterator[Run]:
    try:
        yield process, typed_at
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _properties(source: Cluster, target: Cluster, topic: str) -> list[str]:
    return [
        "clusters = a, b",
        f"a.bootstrap.servers = {source.bootstrap}",
        f"b.bootstrap.servers = {target.bootstrap}",
        "a->b.enabled = true",
        f"a->b.topics = {topic}",
    ]


def fetch_jars() -> None:
    """From Maven Central, once."""
    if JARS.exists():
        return
    partial = JARS.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pom = ["mvn", "-q", "-B", "-f", str(HERE / "connect_mirror" / "pom.xml"), "dependency:copy-dependencies"]
    subprocess.run([*pom, f"-DoutputDirectory={partial}"], check=True)
    partial.rename(JARS)


RUNS = {"ottla": ottla_mirror, "exact": exact_mirror, "mm2": mirror_maker}

if __name__ == "__main__":
    sys.exit(main())
