"""Three nodes under measurement."""

import asyncio
import json
from pathlib import Path
from typing import Any

from bench import costs
from examples.kv.client import KeyValueClient
from examples.kv.cluster import Cluster
from examples.kv.processes import NodeProcess, stop_all

WAIT_S = 30.0


class Group:
    """Started and stopped once."""

    def __init__(self, directory: Path) -> None:
        self.cluster = Cluster.create(directory, 3)
        self.processes = {n: NodeProcess(self.cluster, n, module=("bench.raft.node",)) for n in self.cluster.nodes}

    async def start(self) -> None:
        for process in self.processes.values():
            process.start()
        for process in self.processes.values():
            await asyncio.to_thread(process.read_line)
        await self.leader()

    def stop(self) -> None:
        stop_all(list(self.processes.values()))

    def client(self) -> KeyValueClient:
        return KeyValueClient(self.cluster.addresses.split(","), timeout_s=WAIT_S)

    async def leader(self) -> int:
        """Who leads, once somebody does and has committed a write."""
        async with self.client() as client:
            await client.set(b"who", b"leads")
            return client.answered_by

    async def order(self, node: int, **order: Any) -> dict[str, float]:
        """Let the node measure itself; see `bench.raft.node`."""
        process = self.processes[node]
        stdin = process.process.stdin
        assert stdin is not None
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.flush()
        figures: dict[str, float] = json.loads(await asyncio.to_thread(process.read_line))
        return figures

    def cpu_s(self) -> dict[int, float]:
        return {node: costs.cpu_s(process.pid) for node, process in self.processes.items()}

    def memory_mib(self) -> list[float]:
        return [costs.pss_mib(process.pid) for process in self.processes.values()]
