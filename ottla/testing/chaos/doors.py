"""Every port of a node, flooded with connections or given what no client would send, while clients are at work."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import ClassVar, Final

from ottla.testing.chaos import attack
from ottla.testing.chaos.disks import OfLocalNodes
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.nemesis import Fault

LONGEST_S: Final = 120
"""An attack ends by itself after so long."""


class _Attack(OfLocalNodes):
    """By a process beside the run's."""

    kind: ClassVar[str]

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._process: subprocess.Popen[bytes] | None = None

    async def inject(self, random: Random) -> Fault:
        """Begin it."""
        self.cleanup()
        node = await self.one(random)
        if node is None:
            return self.nobody()
        addresses = await self.blocking(every_port, self.target, node)
        self._process = await self.blocking(self._begin, random.random(), addresses)
        return Fault(name=self.name, detail=f"node {node}, on {len(addresses)} ports", nodes=(node,))

    def _begin(self, seed: float, addresses: Sequence[str]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-I", "-S", str(Path(attack.__file__)), self.kind, str(seed), str(LONGEST_S)]
        return subprocess.Popen([*command, *addresses], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    async def heal(self) -> None:
        """End it."""
        await self.blocking(self.cleanup)

    def cleanup(self) -> None:
        """End it; blocks."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


class Flood(_Attack):
    """More connections than clients would make."""

    name: ClassVar[str] = "flood"
    description: ClassVar[str] = (
        f"{attack.PORT_CONNECTIONS} connections to every port of a node, opened again and again"
    )
    kind: ClassVar[str] = "flood"


class Garbage(_Attack):
    """Nothing of it is a request."""

    name: ClassVar[str] = "garbage"
    description: ClassVar[str] = "random bytes, false sizes, other protocols and giant requests on every port of a node"
    kind: ClassVar[str] = "garbage"


def every_port(target: LocalTarget, node: int) -> list[str]:
    """Where that node listens, HOST:PORT, for clients and for other nodes. Blocks."""
    found = next(one for one in target.cluster.status()["nodes"] if one["id"] == node)
    host = found["kafka"].rpartition(":")[0]
    ports = json.loads((target.cluster.directory / "ports.json").read_text())
    return [f"{host}:{port}" for port in ports[str(node)].values() if port]
