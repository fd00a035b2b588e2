"""One run, from a new cluster to the verdict."""

import asyncio
import time
from pathlib import Path
from random import Random

from examples.kv.chaos.history import save
from examples.kv.chaos.nemesis import PROGRESS_S, Nemesis
from examples.kv.chaos.report import Report, report
from examples.kv.chaos.workload import Workload
from examples.kv.client import KeyValueClient
from examples.kv.cluster import Cluster
from examples.kv.processes import NodeProcess, stop_all
from ottla.testing.sim.linearizability import check

HISTORY = "history"


async def run(directory: Path, *, kills: int, seed: int, clients: int = 5) -> Report:
    """Raises TimeoutError when the store makes no progress although a majority is up, RuntimeError when a node ends by
    itself. The nodes' data and logs stay in `directory`, with the history.
    """
    cluster = Cluster.create(directory, 3)
    addresses = cluster.addresses.split(",")
    random = Random(seed)
    processes = [NodeProcess(cluster, node) for node in cluster.nodes]
    workload = Workload(addresses, random, clients=clients)
    nemesis = Nemesis(processes, workload, random)
    started = time.monotonic()
    try:
        await nemesis.start_all()
        workload.start()
        await workload.wait_for_write(0.0, PROGRESS_S)
        await nemesis.kill(kills)
        await workload.wait_for_write(time.monotonic(), PROGRESS_S)
        await workload.stop()
        replicas_agree = await agree(addresses)
    finally:
        await asyncio.to_thread(stop_all, processes)
    seconds = time.monotonic() - started
    operations = workload.history.operations
    save(directory / HISTORY, operations)
    violation = await asyncio.to_thread(check, operations)
    return report(
        seed=seed,
        seconds=seconds,
        kills=nemesis.kills,
        writes=workload.writes,
        operations=operations,
        replicas_agree=replicas_agree,
        violation=str(violation) if violation is not None else None,
    )


async def agree(addresses: list[str]) -> bool:
    """Whether all nodes come to have applied the same entries, and then hold the same values."""
    clients = [KeyValueClient([address]) for address in addresses]
    try:
        async with asyncio.timeout(PROGRESS_S):
            while True:
                states = [(await client.describe())[1] for client in clients]
                if len({(state.applied, state.term) for state in states}) == 1:
                    return len({state.digest for state in states}) == 1
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    finally:
        for client in clients:
            await client.close()
