"""Readers in haste: they know no leader, ask whoever it may be, and ask on at once when they are refused.

What is wrong with reads shows within milliseconds: at a leader that was just elected, and at one that is deposed and
does not know it. Clients that think between their operations hardly ever ask those.
"""

import asyncio
from collections.abc import Sequence
from random import Random

from ottla.core.errors import StorageError
from ottla.raft.core.leader import Leader
from ottla.raft.driver import RaftNode
from ottla.raft.quorum import NotLeader, Overloaded, ProposalLost
from ottla.testing.sim.register import History, Read
from tests.sim.raft.calls import Calls, Unanswered, Unreached
from tests.sim.raft.checker import Checker
from tests.sim.raft.host import Host

UNKNOWN = (ProposalLost, Unanswered, StorageError)
NOT_DONE = (NotLeader, Overloaded, Unreached)  # ProposalLost is a NotLeader: look for it first


async def read(calls: Calls, checker: Checker, host: Host, key: str, *, within_s: float) -> bytes | None:
    """The value at this node, after a read barrier. Raises one of UNKNOWN or NOT_DONE."""

    async def ask(raft: RaftNode) -> bytes | None:
        logs = checker.logs
        floor = logs.max_committed
        _note_whom(raft, checker)
        try:
            index = await raft.read_barrier()
        except ProposalLost:
            checker.setting.coverage.note("read waited across a leader change")
            raise
        checker.read(raft, floor, index)
        process = host.process
        assert process is not None
        return process.store.get(key.encode())

    _, value = await calls.call(host, ask, within_s=within_s)
    return value


def _note_whom(raft: RaftNode, checker: Checker) -> None:
    core = raft.core
    if not isinstance(core.role, Leader):
        return
    if core.term < max(checker.logs.leaders):
        checker.setting.coverage.note("deposed leader asked")
    elif not raft.is_leader:
        checker.setting.coverage.note("new leader asked at once")


class Reader:
    """One read after the other, each of anybody."""

    def __init__(
        self, name: str, calls: Calls, hosts: Sequence[Host], checker: Checker, history: History, random: Random
    ) -> None:
        self.name, self.calls, self.hosts, self.checker, self.history = name, calls, hosts, checker, history
        self.random = random
        self.stopped = False

    async def run(self) -> None:
        """Until it is stopped."""
        world, random = self.calls.setting.world, self.random
        while not self.stopped:
            key = f"k{random.randrange(0, self.calls.setting.options.keys)}"
            began_s = world.now_s
            try:
                value = await read(
                    self.calls, self.checker, random.choice(self.hosts), key, within_s=random.choice([0.1, 1.0])
                )
            except (*UNKNOWN, *NOT_DONE):  # it says nothing about the key
                await asyncio.sleep(0.008 * random.random())
            else:
                self.history.complete(self.history.invoke(self.name, key, Read(), began_s), world.now_s, Read(value))
                await asyncio.sleep(0.1 * random.random())
