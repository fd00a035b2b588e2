"""Replication alone, durable: several processes on loopback, one partition or some, acks=all.

python -m bench.micro.replication [--replicas N] [--partitions N] [--seconds X] [--dir PATH]

The leader's process appends by itself, so no door and no client is measured; each follower is a process of its own.
Processor time is that of all processes, per GB of what producers wrote.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from ottla.adapters.clock import LoopClock
from ottla.adapters.disk import ThreadedDisk
from ottla.adapters.network import AsyncioNetwork
from ottla.core.error_codes import ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.partitions.replication.handshake import Identity
from ottla.partitions.replication.manager import ReplicaManager
from ottla.partitions.replication.types import Assignment, Peer
from ottla.records.batch import Record, encode_batch

TOPIC, TOPIC_ID = "bench", Uuid(bytes(15) + b"1")
LEADER = NodeId(0)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Replica:
    """One node: its partitions and what replicates them."""

    def __init__(self, node: NodeId, directory: str, partitions: int, *, flush_on_ack: bool = True) -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        self.node = node
        self.disk = ThreadedDisk(loop, directory)
        self.logs = PartitionManager(self.disk, clock)
        self.logs.open()
        config = LogConfig(max_message_bytes=2 << 20, min_insync_replicas=2, flush_on_ack=flush_on_ack)
        self.partitions = [self.logs.create(TOPIC, TOPIC_ID, n, config) for n in range(partitions)]
        self.replicas = ReplicaManager(
            Identity(cluster_id=Uuid(bytes(16)), node=node, incarnation=Uuid(bytes(16)), secret=b"bench"),
            self.logs,
            network=AsyncioNetwork(loop),
            clock=clock,
            random=random.SystemRandom(),
            propose=lambda proposals: None,
        )
        self.replicas.open()
        self.port = self.replicas.listen("127.0.0.1", 0)
        self.replicas.registered(1)

    def follow(self, nodes: list[NodeId], ports: list[int]) -> None:
        peers = {
            node: Peer(node=node, broker_epoch=1, host="127.0.0.1", port=port)
            for node, port in zip(nodes, ports, strict=True)
        }
        assignments = [
            Assignment(
                topic=TOPIC,
                topic_id=TOPIC_ID,
                index=n,
                leader=LEADER,
                leader_epoch=1,
                replicas=tuple(nodes),
                isr=tuple(nodes),
                partition_epoch=1,
            )
            for n in range(len(self.partitions))
        ]
        self.replicas.follow(assignments, peers)


async def follower(node: NodeId, directory: str, partitions: int, leader_port: int, replicas: int) -> None:
    replica = Replica(node, directory, partitions)
    nodes = [NodeId(n) for n in range(replicas)]
    replica.follow(nodes, [leader_port] * replicas)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the leader's process goes


@contextmanager
def followers(directory: str, partitions: int, port: int, replicas: int) -> Iterator[list[int]]:
    processes = []
    try:
        for n in range(1, replicas):
            path = Path(directory) / str(n)
            path.mkdir()
            arguments = {
                "node": n,
                "directory": str(path),
                "partitions": partitions,
                "port": port,
                "replicas": replicas,
            }
            command = [sys.executable, "-m", "bench.micro.replication", "--follower", json.dumps(arguments)]
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.kill()
            process.wait()


async def measure(partitions: list[Partition], batch: bytes, seconds: float, in_flight: int, pids: list[int]) -> str:
    """Append for that time, at most `in_flight` batches unacknowledged; the line of the table."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    sent = answered = 0
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    def send() -> None:
        nonlocal sent
        partition, started = partitions[sent % len(partitions)], time.perf_counter()
        sent += 1

        def done(code: ErrorCode) -> None:
            nonlocal answered
            assert code is ErrorCode.NONE, code
            now = time.perf_counter()
            latencies.append(now - started)
            answered += 1
            if now < end:
                loop.call_soon(send)
            elif answered == sent:
                finished.set_result(None)

        partition.append(memoryview(bytearray(batch)), acks=-1, done=done)

    wall, processor = time.perf_counter(), cpu_s(pids)
    own = time.process_time()
    for _ in range(in_flight):
        send()
    await finished
    wall, processor = time.perf_counter() - wall, cpu_s(pids) - processor
    own = time.process_time() - own
    latencies.sort()
    count, megabytes = len(latencies), len(latencies) * len(batch) / 1e6
    return (
        f"{len(batch):>9,} B  {len(partitions):>4} part.  {in_flight:>4} in flight  {count / wall:>8,.0f}/s  "
        f"{megabytes / wall:>6,.0f} MB/s  CPU {processor / count * 1e6:>6.0f} µs (leader {own / count * 1e6:.0f}), "
        f"{processor / megabytes * 1000:>6.2f} s/GB  p50 {latencies[count // 2] * 1000:.2f} ms  "
        f"p99 {latencies[count * 99 // 100] * 1000:.2f} ms"
    )


def cpu_s(pids: list[int]) -> float:
    total = 0.0
    for pid in [os.getpid(), *pids]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return total


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        path = Path(directory) / "0"
        path.mkdir()
        replica = Replica(LEADER, str(path), options.partitions)
        nodes = [NodeId(n) for n in range(options.replicas)]
        with followers(directory, options.partitions, replica.port, options.replicas) as pids:
            replica.follow(nodes, [replica.port] * options.replicas)
            now_ms = time.time_ns() // 1_000_000
            kib = Record(0, now_ms, None, os.urandom(1024), ())
            small = encode_batch([kib])
            many = encode_batch([kib] * 960)
            large = encode_batch([Record(0, now_ms, None, os.urandom(65_536), ())] * 15)
            every, one = replica.partitions, replica.partitions[:1]
            await measure(every, small, 1.0, options.partitions, pids)
            for partitions, batch, in_flight in (
                (one, small, 1),
                (every, small, 5),
                (every, small, 100),
                (every, many, 8),
                (every, large, 8),
            ):
                print(await measure(partitions, batch, options.seconds, in_flight, pids), flush=True)
        replica.replicas.close()
        replica.disk.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--dir", default=".", help="where the logs go for the time being")
    parser.add_argument("--follower", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    sys.setswitchinterval(0.0005)
    if parsed.follower:
        given = json.loads(parsed.follower)
        uvloop.run(
            follower(NodeId(given["node"]), given["directory"], given["partitions"], given["port"], given["replicas"])
        )
    else:
        uvloop.run(main(parsed))
