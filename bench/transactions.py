"""Transactions of a hundred small records over six partitions: how many a second, how long a commit takes, its cost.

The time of a commit begins with `commit_transaction`, which first waits for the records that are still on their way.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from bench.cluster import Cluster
from bench.quantiles import quantile

RECORDS = 100
RECORD_BYTES = 100
PARTITIONS = 6
WARM_UP_S = 2.0


def transactions(producers: int) -> Callable[[Cluster, float], dict[str, float]]:
    """A measure of so many producers at a time, each with a transactional id of its own; it takes the seconds."""

    def measure(cluster: Cluster, seconds: float) -> dict[str, float]:
        topic = cluster.new_topic(PARTITIONS)
        _commits(cluster, topic, producers, WARM_UP_S)
        cpu_s = cluster.cpu_s()
        commits_ms, took_s = _commits(cluster, topic, producers, seconds)
        cpu_s = cluster.cpu_s() - cpu_s
        cluster.delete_topic(topic)
        return {
            "transactions_per_s": len(commits_ms) / took_s,
            "commit_p50_ms": quantile(commits_ms, 0.5),
            "commit_p99_ms": quantile(commits_ms, 0.99),
            "cpu_ms_per_transaction": cpu_s / len(commits_ms) * 1e3,
        }

    return measure


def _commits(cluster: Cluster, topic: str, producers: int, seconds: float) -> tuple[list[float], float]:
    """The time of each commit in ms, sorted, and the seconds that all of it took, without the producers' start."""
    commits_ms: list[float] = []
    failures: list[BaseException] = []
    ready = threading.Barrier(producers + 1)

    def work(number: int) -> None:
        try:
            producer = cluster.producer(**{"transactional.id": f"{topic}-{number}", "linger.ms": 0})
            producer.init_transactions(60)
            ready.wait(60)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                producer.begin_transaction()
                for n in range(RECORDS):
                    producer.produce(topic, bytes(RECORD_BYTES), partition=n % PARTITIONS)
                begun = time.monotonic()
                producer.commit_transaction(60)
                commits_ms.append((time.monotonic() - begun) * 1e3)
        except BaseException as error:
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(producers)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):  # `failures` says why
        ready.wait(60)
    started = time.monotonic()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{cluster.name}: {len(failures)} producers failed") from failures[0]
    return sorted(commits_ms), time.monotonic() - started
