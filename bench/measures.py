"""What is measured. Each measure takes a cluster and answers its figures; higher or lower is better, as `BETTER` says.

Processor time is of the brokers alone: on a noisy machine CPU seconds a GB say more than MB/s.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import TopicPartition

from bench.cluster import Cluster
from bench.groups import GROUP_MEASURES
from bench.partitions import a_leader_dies, many_partitions
from bench.producing import Figures, flood
from bench.quantiles import quantile
from bench.transactions import transactions


@dataclass(frozen=True, kw_only=True)
class Options:
    """`seconds`: length of one measurement."""

    seconds: float = 8


def _produce(record_bytes: int) -> Callable[[Cluster, Options], Figures]:
    def measure(cluster: Cluster, options: Options) -> Figures:
        topic = cluster.new_topic()
        flood(cluster, topic, record_bytes, 3)  # a JVM, and a page cache, have to warm up
        figures = flood(cluster, topic, record_bytes, options.seconds)[1]
        cluster.delete_topic(topic)
        return {k: figures[k] for k in ("mb_per_s", "records_per_s", "cpu_s_per_gb")}

    return measure


def single(cluster: Cluster, options: Options) -> Figures:
    """One record a request, five requests in flight for each broker: what a request costs."""
    return _alone(cluster, options, {"max.in.flight": 5})


def crowd(cluster: Cluster, options: Options) -> Figures:
    """One record a request, a hundred requests in flight over all brokers, as of many producers."""
    each = -(-100 // len(cluster.pids))
    # Not idempotent: an idempotent producer has no more than five in flight.
    return _alone(cluster, options, {"max.in.flight": each, "enable.idempotence": False})


def _alone(cluster: Cluster, options: Options, settings: Mapping[str, object]) -> Figures:
    alone = {"batch.num.messages": 1, "linger.ms": 0, "queue.buffering.max.messages": 2000, **settings}
    topic = cluster.new_topic()
    flood(cluster, topic, 1024, 3, **alone)
    figures = flood(cluster, topic, 1024, options.seconds, **alone)[1]
    cluster.delete_topic(topic)
    return {"requests_per_s": figures["records_per_s"], "cpu_us_per_request": figures["cpu_us_per_record"]}


def drain(cluster: Cluster, options: Options) -> Figures:
    """Consume with kcat, which costs little for a record, so that the broker is what is measured."""
    topic = cluster.new_topic()
    written, _ = flood(cluster, topic, 1024, options.seconds)
    command = ["kcat", "-b", cluster.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", ""]
    subprocess.run(command, check=True, capture_output=True)
    cpu, start = cluster.cpu_s(), time.monotonic()
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)
    took, cpu = (time.monotonic() - start) / 2, (cluster.cpu_s() - cpu) / 2
    cluster.delete_topic(topic)
    gigabytes = written * 1024 / 1e9
    return {"mb_per_s": gigabytes * 1e3 / took, "cpu_s_per_gb": cpu / gigabytes}


def _latency(records_per_s: int) -> Callable[[Cluster, Options], Figures]:
    def measure(cluster: Cluster, options: Options) -> Figures:
        topic = cluster.new_topic()
        times = _paced(cluster, topic, records_per_s, options.seconds)
        cluster.delete_topic(topic)
        return {"p50_ms": quantile(times, 0.5), "p99_ms": quantile(times, 0.99), "max_ms": times[-1]}

    return measure


def _for_seconds(measure: Callable[[Cluster, float], Figures]) -> Callable[[Cluster, Options], Figures]:
    return lambda cluster, options: measure(cluster, options.seconds)


def _paced(cluster: Cluster, topic: str, records_per_s: int, seconds: float) -> list[float]:
    """From `produce()` to the record in a consumer's hands, in ms, sorted; the first five seconds are not counted."""
    consumer = cluster.consumer(**{"fetch.wait.max.ms": 100})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(6)])
    producer = cluster.producer(**{"linger.ms": 0})
    times: list[float] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message and not message.error() and (value := message.value()):
                times.append((time.monotonic_ns() - int(value[:20])) / 1e6)

    reader = threading.Thread(target=read)
    reader.start()
    settling, count = 5 * records_per_s, int((5 + seconds) * records_per_s)
    start, padding = time.monotonic(), b"x" * 1000
    for n in range(count):
        # Not `poll(ahead)`: it counts whole milliseconds, and would take a processor from the brokers to wait for less.
        if (ahead := start + n / records_per_s - time.monotonic()) > 0:
            time.sleep(ahead)
        producer.produce(topic, b"%020d" % time.monotonic_ns() + padding, partition=n % 6)
        producer.poll(0)
    producer.flush(30)
    deadline = time.monotonic() + 30
    while len(times) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    reader.join()
    consumer.close()
    if len(times) != count:
        raise RuntimeError(f"{cluster.name}: {len(times)} of {count} records came back")
    return sorted(times[settling:])


MEASURES: dict[str, Callable[[Cluster, Options], Figures]] = {
    "produce 100 B": _produce(100),
    "produce 1 KiB": _produce(1024),
    "produce 64 KiB": _produce(65_536),
    "one record a request": single,
    "the same, 100 in flight": crowd,
    "drain with kcat": drain,
    "end to end at 100/s": _latency(100),
    "end to end at 1,000/s": _latency(1000),
    "transactions, one producer": _for_seconds(transactions(1)),
    "transactions, eight producers": _for_seconds(transactions(8)),
    "transactions, fifty producers": _for_seconds(transactions(50)),
    **{name: _for_seconds(measure) for name, measure in GROUP_MEASURES.items()},
    "a leader dies": _for_seconds(a_leader_dies),
    "10,000 partitions": _for_seconds(many_partitions),
}

DEADLY = {"a coordinator dies", "a leader dies", "10,000 partitions"}
"""They leave a node less, so each of them has a cluster of its own."""

BETTER = {
    "mb_per_s": "higher",
    "records_per_s": "higher",
    "requests_per_s": "higher",
    "cpu_s_per_gb": "lower",
    "cpu_us_per_request": "lower",
    "transactions_per_s": "higher",
    "commit_p50_ms": "lower",
    "commit_p99_ms": "lower",
    "cpu_ms_per_transaction": "lower",
    "commits_per_s": "higher",
    "cpu_us_per_commit": "lower",
    "join_s": "lower",
    "kill_s": "lower",
    "restart_s": "lower",
    "cpu_s": "lower",
    "gap_s": "lower",
    "p50_ms": "lower",
    "p99_ms": "lower",
    "max_ms": "lower",
    "memory_mib": "lower",
    "start_s": "lower",
    "create_s": "lower",
    "many_mib": "lower",
    "idle_cores": "lower",
}
