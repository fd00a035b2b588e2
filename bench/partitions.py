"""What many partitions cost, and how long the partitions of a killed broker take no writes.

The gap is from the last acknowledged record before the kill to the first one after, the longest of the partitions that
are watched: each of them is written again as soon as its last record is acknowledged or refused, so that no queue of a
client stands between. The killed broker does not come back.
"""

import os
import random
import signal
import time
from itertools import pairwise

from bench.cluster import Cluster
from bench.producing import flood

MANY = 10_000
OF_A_TOPIC = 1_000
"""Kafka refuses more than 10,000 changes in one request; ten topics, one after the other."""
WATCHED = 100
SETTLES_S = 10
IDLE_S = 20
BEFORE_S = 5
AFTER_S = 2
GAP_S = 90.0

QUICK_RETRIES: dict[str, object] = {
    "linger.ms": 0,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 100,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "topic.metadata.refresh.fast.interval.ms": 50,
}
"""The broker's gap is what is looked for, not the pauses of the client."""


def many_partitions(cluster: Cluster, seconds: float) -> dict[str, float]:
    """Create them, rest, write to a thousand of them, kill a broker."""
    start = time.monotonic()
    topics = [cluster.new_topic(OF_A_TOPIC) for _ in range(MANY // OF_A_TOPIC)]
    create_s = time.monotonic() - start
    time.sleep(SETTLES_S)
    start, cpu_s = time.monotonic(), cluster.cpu_s()
    time.sleep(IDLE_S)
    idle_cores = (cluster.cpu_s() - cpu_s) / (time.monotonic() - start)
    memory_mib = cluster.memory_mib()
    written = flood(cluster, topics[0], 1024, seconds)[1]
    figures = {
        "create_s": create_s,
        "many_mib": memory_mib,
        "idle_cores": idle_cores,
        "mb_per_s": written["mb_per_s"],
        "cpu_s_per_gb": written["cpu_s_per_gb"],
    }
    if len(cluster.pids) >= 3:  # else nobody would take over
        figures["gap_s"] = write_gap(cluster, topics[-1])
    return figures


def a_leader_dies(cluster: Cluster, seconds: float) -> dict[str, float]:
    if len(cluster.pids) < 3:
        return {}
    return {"gap_s": write_gap(cluster, cluster.new_topic(6))}


def write_gap(cluster: Cluster, topic: str) -> float:
    """Kill the first broker; the longest gap, in seconds, of at most `WATCHED` partitions of `topic` that it led.

    Of one topic: librdkafka's threads look at each partition of a topic that they write to in each of their turns, and
    with ten thousand of them its turns would be what is measured.
    """
    victim, pid = min(cluster.admin().list_topics(timeout=30).brokers), cluster.pids[0]
    partitions = cluster.admin().list_topics(topic, timeout=30).topics[topic].partitions.values()
    led = [one.id for one in partitions if one.leader == victim]
    watched = random.Random(0).sample(led, min(WATCHED, len(led)))
    acknowledged: dict[int, list[float]] = {one: [] for one in watched}
    due = list(watched)

    def delivered(error: object, message: object) -> None:
        one = message.partition()  # type: ignore[attr-defined]
        if not error:
            acknowledged[one].append(time.monotonic())
        due.append(one)

    producer = cluster.producer(**QUICK_RETRIES)

    def write() -> None:
        while due:
            producer.produce(topic, b"x" * 100, partition=due.pop(), on_delivery=delivered)
        producer.poll(0.001)

    start = time.monotonic()
    while time.monotonic() - start < BEFORE_S or not all(acknowledged.values()):
        write()
        _in_time(cluster, start)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    cluster.pids.remove(pid)
    # An answer that was on its way when its broker died is no sign that another one leads: go on for a while.
    while not all(times[-1] > killed + AFTER_S for times in acknowledged.values()):
        write()
        _in_time(cluster, killed)
    producer.flush(60)
    return max(_gap(times, killed) for times in acknowledged.values())


def _gap(times: list[float], killed: float) -> float:
    last = max(n for n, moment in enumerate(times) if moment <= killed)
    return max(b - a for a, b in pairwise(times[last:]))


def _in_time(cluster: Cluster, start: float) -> None:
    if time.monotonic() - start > GAP_S:
        raise TimeoutError(f"{cluster.name}: a partition takes no writes after {GAP_S} s")
