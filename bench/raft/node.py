"""A node of the key-value store that also measures its own quorum: `python -m bench.raft.node`.

Orders come as JSON on standard input, one a line, and each is answered with its figures. So proposals are made where
they would be in production, in the process of the leader; making them is a part of what is measured.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.quantiles import quantile
from examples.kv.cluster import Cluster
from examples.kv.commands import Set, encode
from examples.kv.node import Node, exit_at_once
from ottla.node.limits import set_switch_interval
from ottla.node.logs import configure
from ottla.node.process import GC_THRESHOLD
from ottla.raft.quorum import Quorum

COMMAND = encode(Set(b"key-0000", bytes(83)))
assert len(COMMAND) == 100


async def propose(quorum: Quorum, *, in_flight: int, seconds: float) -> dict[str, float]:
    """So many at a time, each followed by the next once it is committed and applied here."""
    times: list[float] = []
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*(_propose_until(quorum, end, times) for _ in range(in_flight)))
    took = time.perf_counter() - start
    times.sort()
    return {
        "proposals": len(times),
        "seconds": took,
        "p50_ms": quantile(times, 0.5) * 1e3,
        "p99_ms": quantile(times, 0.99) * 1e3,
    }


async def _propose_until(quorum: Quorum, end: float, times: list[float]) -> None:
    now = time.perf_counter()
    while (begun := now) < end:
        await quorum.propose(COMMAND)
        now = time.perf_counter()
        times.append(now - begun)


async def obey(node: Node, order: dict[str, Any]) -> dict[str, float]:
    profile = cProfile.Profile() if order.get("profile") else None
    if profile is not None:
        profile.enable()
    try:
        return await propose(node.quorum, in_flight=order["in_flight"], seconds=order["seconds"])
    finally:
        if profile is not None:
            profile.disable()
            profile.dump_stats(order["profile"])


async def live(cluster: Cluster, number: int) -> None:
    """Until standard input ends."""
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    node = Node(cluster, number, on_failure=lambda: exit_at_once(1))
    await node.start()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)
    print("ready", flush=True)
    while line := await orders.readline():
        print(json.dumps(await obey(node, json.loads(line))), flush=True)
    await node.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--id", type=int, required=True)
    parser.add_argument("--ends-with-stdin", action="store_true", help="It always does.")
    options = parser.parse_args()
    configure("warning", "text")
    set_switch_interval(500)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live(Cluster.load(options.dir), options.id))
    exit_at_once(0)


if __name__ == "__main__":
    main()
