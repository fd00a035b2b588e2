"""A node that gets no more memory: every allocation beyond what it has fails, wherever it happens to be made.

By the limit of its address space (RLIMIT_AS), set on the process while it runs, as it needs no rights and no cgroup,
and is harder than one: a cgroup's limit ends in SIGKILL, which `processes.Kill` does already.
"""

import re
import resource
import sys
from pathlib import Path
from random import Random
from typing import ClassVar, Final

from ottla.testing.chaos.disks import OfLocalNodes
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import LINUX, Need
from ottla.testing.chaos.nemesis import Fault
from ottla.testing.cluster import ClusterError

LEFT_BYTES: Final = (0, 1 << 20, 16 << 20)


class MemoryLimit(OfLocalNodes):
    """Later the limit is gone; a node that ended over it is started again."""

    name: ClassVar[str] = "memory-limit"
    description: ClassVar[str] = "a node's allocations fail (RLIMIT_AS at what it has); lifted later"
    needs: ClassVar[tuple[Need, ...]] = (LINUX,)

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._limited: tuple[int, int] | None = None

    async def inject(self, random: Random) -> Fault:
        """Of one."""
        node = await self.one(random)
        if node is None:
            return self.nobody()
        left_bytes = random.choice(LEFT_BYTES)
        pid = await self.blocking(self.target.pid, node)
        size_bytes = size_of(pid)
        self._limited = node, pid
        _limit(pid, size_bytes + left_bytes)
        detail = f"node {node} at {size_bytes >> 20} MiB of address space, {left_bytes >> 20} more allowed"
        return Fault(name=self.name, detail=detail, nodes=(node,))

    async def heal(self) -> None:
        """No limit, and the node is there."""
        limited, self._limited = self._limited, None
        if limited is not None:
            await self.blocking(self._lift, *limited)

    def _lift(self, node: int, pid: int) -> None:
        try:
            if self.target.pid(node) == pid:
                _limit(pid, None)
        except (ClusterError, ProcessLookupError):
            pass  # it has ended
        self.target.start_nodes(node)

    def cleanup(self) -> None:
        """The process ends with the target."""


def size_of(pid: int) -> int:
    """Bytes of address space that a process has."""
    found = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise ProcessLookupError(pid)
    return int(found[1]) << 10


def _limit(pid: int, size_bytes: int | None) -> None:
    """Of its address space; None: as far as it was ever allowed."""
    if sys.platform == "linux":
        _, most = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (most if size_bytes is None else size_bytes, most))
