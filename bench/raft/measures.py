"""What is measured of a group of three. Each measure answers its figures; `TARGETS` says what they should be."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from bench.quantiles import quantile
from bench.raft.group import Group
from ottla.adapters.files import OsFiles

Figures = dict[str, float]

IN_FLIGHT = 64
PAUSE_S = 1.0  # between elections: all nodes are up and have everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Lengths of the measurements."""

    seconds: float = 8.0
    idle_seconds: float = 30.0
    elections: int = 10
    profile: str = ""
    """A file for the leader's profile; it slows what it looks at."""


async def sync(group: Group, options: Options) -> Figures:
    """What the disk takes for one small write that is synced, with nothing else of the group going on."""
    file = OsFiles(str(group.cluster.path)).open("sync", create=True)
    file.pwritev([bytes(1 << 20)], 0)
    file.sync()
    times = []
    for n in range(1000):
        begun = time.perf_counter()
        file.pwritev([bytes(200)], 512 * n, sync=True)
        times.append((time.perf_counter() - begun) * 1e3)
    file.close()
    times.sort()
    return {"p50_ms": quantile(times, 0.5), "p99_ms": quantile(times, 0.99)}


async def many(group: Group, options: Options) -> Figures:
    """Proposals in the leader's process, 64 in flight."""
    leader = await group.leader()
    await group.order(leader, in_flight=IN_FLIGHT, seconds=2)  # warms up
    before = group.cpu_s()
    found = await group.order(leader, in_flight=IN_FLIGHT, seconds=options.seconds, profile=options.profile)
    spent = {node: after - before[node] for node, after in group.cpu_s().items()}
    count = found["proposals"]
    followers = [cpu for node, cpu in spent.items() if node != leader]
    return {
        "proposals_per_s": count / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "leader_cpu_us": spent[leader] / count * 1e6,
        "follower_cpu_us": sum(followers) / len(followers) / count * 1e6,
    }


async def one(group: Group, options: Options) -> Figures:
    """Proposals in the leader's process, one at a time."""
    found = await group.order(await group.leader(), in_flight=1, seconds=options.seconds)
    return {name: found[name] for name in ("p50_ms", "p99_ms")}


async def clients(group: Group, options: Options) -> Figures:
    """Writes of 64 clients over TCP, from one more process on the same machine: for information."""
    times: list[float] = []
    end = time.perf_counter() + options.seconds

    async def use() -> None:
        async with group.client() as client:
            now = time.perf_counter()
            while (begun := now) < end:
                await client.set(b"key-0000", b"x" * 83)
                now = time.perf_counter()
                times.append(now - begun)

    await asyncio.gather(*(use() for _ in range(IN_FLIGHT)))
    times.sort()
    return {
        "proposals_per_s": len(times) / options.seconds,
        "p50_ms": quantile(times, 0.5) * 1e3,
        "p99_ms": quantile(times, 0.99) * 1e3,
    }


async def elections(group: Group, options: Options) -> Figures:
    """From `kill -9` of the leader to a write that the next one acknowledged."""
    times: list[float] = []
    async with group.client() as client:
        for _ in range(options.elections):
            await client.set(b"key", b"before")
            leader = client.answered_by
            group.processes[leader].kill()
            begun = time.perf_counter()
            await client.set(b"key", b"after")
            times.append((time.perf_counter() - begun) * 1e3)
            assert client.answered_by != leader
            group.processes[leader].start()
            await asyncio.to_thread(group.processes[leader].read_line)
            await asyncio.sleep(PAUSE_S)
    return {"p50_ms": median(times), "max_ms": max(times)}


async def idle(group: Group, options: Options) -> Figures:
    """A group that nobody asks anything."""
    await group.leader()
    await asyncio.sleep(PAUSE_S)
    before = group.cpu_s()
    await asyncio.sleep(options.idle_seconds)
    shares = [100 * (after - before[node]) / options.idle_seconds for node, after in group.cpu_s().items()]
    memory = group.memory_mib()
    return {"cpu_percent_mean": sum(shares) / len(shares), "cpu_percent_max": max(shares), "memory_mib": max(memory)}


MEASURES: dict[str, Callable[[Group, Options], Awaitable[Figures]]] = {
    "one sync": sync,
    "64 in flight": many,
    "one at a time": one,
    "64 clients": clients,
    "election": elections,
    "idle": idle,
}

TARGETS: dict[tuple[str, str], str] = {
    ("64 in flight", "proposals_per_s"): "≥ 8,000",
    ("one at a time", "p50_ms"): "≤ 1.5",
    ("election", "max_ms"): "≤ 400",
    ("idle", "cpu_percent_max"): "≤ 1",
}
