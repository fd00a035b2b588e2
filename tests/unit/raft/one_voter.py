"""A quorum of one on simulated files, ready to take proposals."""

import asyncio
from random import Random
from typing import Any

from ottla.adapters.clock import LoopClock
from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Member, Membership
from ottla.raft.driver import RaftNode, RaftSettings
from ottla.raft.quorum import StateMachine
from ottla.raft.transport import Alone
from tests.unit.raft.disk import LoopDisk

MEMBER = Member(NodeId(1), Uuid(bytes(16)))


def open_node(disk: LoopDisk, machine: StateMachine, *, directory: str = "quorum", **options: Any) -> RaftNode:
    """Read the journal; the caller starts it."""
    options.setdefault("segment_bytes", 64 << 10)
    return RaftNode.open(
        RaftSettings(directory=directory, member=MEMBER, **options),
        machine,
        bootstrap=Membership(frozenset([MEMBER])),
        clock=LoopClock(asyncio.get_running_loop()),
        random=Random(1),
        disk=disk,
        transport=Alone(),
    )


async def one_voter(disk: LoopDisk, machine: StateMachine, *, directory: str = "quorum", **options: Any) -> RaftNode:
    """Start it, and wait until it leads."""
    node = open_node(disk, machine, directory=directory, **options)
    node.start()
    await node.until_led()
    return node
