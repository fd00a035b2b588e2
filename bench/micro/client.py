"""What our client does in a second against one node: ``python -m bench.micro.client [--records N] [--json]``.

A node of its own process on the same machine; the client's rates and both sides' processor time. Each line is one way
of sending or reading: one record at a time, and as fast as the client can, with small and with large batches.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from ottla.client import Consumer, Producer
from ottla.testing.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    records_per_second: float
    megabytes_per_second: float
    client_us: float  # processor time for each record
    node_us: float


def seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def measure(name: str, cluster: Cluster, size: int, work: Callable[[], Awaitable[int]]) -> Figure:
    node, own = psutil.Process(cluster.node_pids[0]), psutil.Process()
    before = time.perf_counter(), seconds(own), seconds(node)
    count = await work()
    elapsed, client, broker = time.perf_counter() - before[0], seconds(own) - before[1], seconds(node) - before[2]
    return Figure(name, count / elapsed, count * size / elapsed / 1e6, client / count * 1e6, broker / count * 1e6)


async def send(cluster: Cluster, topic: str, count: int, size: int, **settings: Any) -> int:
    value = bytes(size)
    async with Producer(bootstrap_servers=cluster.grpc, **settings) as producer:
        for _ in range(count):
            await producer.send(topic, value)
    return count


async def send_and_wait(cluster: Cluster, topic: str, count: int, size: int) -> int:
    value = bytes(size)
    async with Producer(bootstrap_servers=cluster.grpc, linger_ms=0) as producer:
        for _ in range(count):
            await producer.send_and_wait(topic, value)
    return count


async def poll(cluster: Cluster, topic: str, count: int) -> int:
    seen = 0
    async with Consumer(topic, bootstrap_servers=cluster.grpc, auto_offset_reset="earliest") as consumer:
        while seen < count:
            seen += sum(map(len, (await consumer.poll(5_000)).values()))
    return seen


async def iterate(cluster: Cluster, topic: str, count: int) -> int:
    seen = 0
    async with Consumer(topic, bootstrap_servers=cluster.grpc, auto_offset_reset="earliest") as consumer:
        async for _ in consumer:
            seen += 1
            if seen == count:
                break
    return seen


async def figures(cluster: Cluster, count: int) -> list[Figure]:
    large = {"batch_size": 262_144, "max_request_size": 1_048_576, "linger_ms": 20}
    one = count // 100
    return [
        await measure("send, 100 B", cluster, 100, lambda: send(cluster, "a", count, 100)),
        await measure("send, 100 B, large batches", cluster, 100, lambda: send(cluster, "b", count, 100, **large)),
        await measure("send, 1 KiB", cluster, 1024, lambda: send(cluster, "c", count // 2, 1024)),
        await measure(
            "send, 1 KiB, large batches", cluster, 1024, lambda: send(cluster, "d", count // 2, 1024, **large)
        ),
        await measure("send and wait, 100 B", cluster, 100, lambda: send_and_wait(cluster, "e", one, 100)),
        await measure("poll, 100 B", cluster, 100, lambda: poll(cluster, "b", count)),
        await measure("poll, 1 KiB", cluster, 1024, lambda: poll(cluster, "d", count // 2)),
        await measure("async for, 100 B", cluster, 100, lambda: iterate(cluster, "b", count)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with Cluster() as cluster:
        found = asyncio.run(figures(cluster, arguments.records))
    if arguments.json:
        json.dump([asdict(figure) for figure in found], sys.stdout)
        return
    print(f"{'':32} {'records/s':>10} {'MB/s':>8} {'client µs':>10} {'node µs':>8}")
    for figure in found:
        print(
            f"{figure.name:32} {figure.records_per_second:10,.0f} {figure.megabytes_per_second:8.1f}"
            f" {figure.client_us:10.2f} {figure.node_us:8.2f}"
        )


if __name__ == "__main__":
    main()
