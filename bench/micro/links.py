"""`python -m bench.micro.links`: copying a topic between two Ottla clusters, byte-exact and in transactions.

The mirror runs in this process; its processor time is this process's, that of the clusters is their nodes'.
"""

import argparse
import asyncio
import time

from bench import costs
from bench.cluster import Cluster as Measured
from bench.mirror import PARTITIONS, fill
from ottla.client import TopicPartition
from ottla.client.transport import LATEST_TIMESTAMP
from ottla.mirror.config import build_config
from ottla.mirror.engine.process import MirrorProcess
from ottla.testing.cluster import Cluster

_PATIENCE_S = 300.0


def main() -> None:
    """A line for each kind of flow and size."""
    options = argparse.ArgumentParser(prog="python -m bench.micro.links")
    options.add_argument("--megabytes", type=int, default=100)
    megabytes = options.parse_args().megabytes
    with Cluster() as a, Cluster() as b:
        source = Measured(name="source", bootstrap=a.bootstrap, pids=a.node_pids)
        for exact in (True, False):  # topics of the mirror and of groups are made
            asyncio.run(copy(a, b, source.new_topic(PARTITIONS), 0, exact=exact))
        for record_bytes, compression in ((1024, "none"), (100, "lz4")):
            chosen = argparse.Namespace(record_bytes=record_bytes, compression=compression, megabytes=megabytes)
            for exact in (True, False):
                topic = source.new_topic(PARTITIONS)
                count = fill(source, topic, chosen)
                pids = [*a.node_pids, *b.node_pids]
                before, cpu, at = sum(map(costs.cpu_s, pids)), time.process_time(), time.monotonic()
                asyncio.run(copy(a, b, topic, count, exact=exact))
                took, cpu = time.monotonic() - at, time.process_time() - cpu
                nodes = sum(map(costs.cpu_s, pids)) - before
                size = count * record_bytes
                kind, speed = "exact" if exact else "in transactions", f"{size / took / 1e6:4.0f} MB/s"
                each = f"{cpu / size * 1e9:5.1f} and {nodes / size * 1e9:5.1f} CPU s/GB of mirror and nodes"
                print(f"{record_bytes} B {compression:5} {kind:16}{speed}, {each}", flush=True)


async def copy(a: Cluster, b: Cluster, topic: str, count: int, *, exact: bool) -> None:
    """Return when the copy has as many offsets as the source has records."""
    values = {"clusters": "a,b", "topics": topic, "a->b.enabled": "true", "ottla.exact": str(exact).lower()}
    values |= {
        "emit.heartbeats.enabled": "false",
        "emit.checkpoints.enabled": "false",
        "emit.offset-syncs.enabled": "false",
    }
    for alias, cluster in (("a", a), ("b", b)):
        values |= {f"{alias}.bootstrap.servers": cluster.grpc if exact else cluster.bootstrap}
        values |= {f"{alias}.ottla.protocol": "grpc" if exact else "kafka"}
    config = build_config(values)
    [flow] = config.flows
    remote = flow.remote_topic(topic)
    partitions = [TopicPartition(remote, index) for index in range(PARTITIONS)]
    async with MirrorProcess(config) as process, asyncio.timeout(_PATIENCE_S):
        target = process.sides["b"]
        while True:
            await asyncio.sleep(0.05)
            if remote in target.topics:
                ends = [await target.offset_at(one, LATEST_TIMESTAMP, read_committed=False) for one in partitions]
                if sum(ends) >= count:
                    return


if __name__ == "__main__":
    main()
