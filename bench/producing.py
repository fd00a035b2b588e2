"""Records as fast as a cluster takes them, by librdkafka."""

import os
import time

from bench.cluster import Cluster

Figures = dict[str, float]


def flood(cluster: Cluster, topic: str, record_bytes: int, seconds: float, **settings: object) -> tuple[int, Figures]:
    """Produce as fast as the cluster takes it, then wait for every acknowledgement."""
    acked = 0
    failures: list[str] = []

    def delivered(error: object, _message: object) -> None:
        nonlocal acked
        if error:
            failures.append(str(error))
        else:
            acked += 1

    producer, value = cluster.producer(**settings), os.urandom(record_bytes)
    cpu, start = cluster.cpu_s(), time.monotonic()
    while time.monotonic() - start < seconds:
        for _ in range(200):
            while True:
                try:
                    producer.produce(topic, value, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.poll(0)
    producer.flush(120)
    took, cpu = time.monotonic() - start, cluster.cpu_s() - cpu
    if failures or not acked:
        raise RuntimeError(f"{cluster.name}: {len(failures)} records failed, the first with {failures[:1]}")
    gigabytes = acked * record_bytes / 1e9
    return acked, {
        "records_per_s": acked / took,
        "mb_per_s": gigabytes * 1e3 / took,
        "cpu_s_per_gb": cpu / gigabytes,
        "cpu_us_per_record": cpu / acked * 1e6,
    }
