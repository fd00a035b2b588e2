"""Whoever runs the cluster: adds and removes members, hands over leadership, replaces a disk that is lost.

One change after the other, and only a minority of the disks is ever lost: a quorum promises to survive no more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from ottla.core.errors import StorageError
from ottla.raft.core import Member, MembershipError
from ottla.raft.driver import NOBODY, RaftNode
from ottla.raft.quorum import NotLeader, Overloaded
from tests.sim.raft.calls import Calls, Unanswered, Unreached
from tests.sim.raft.checker import Checker
from tests.sim.raft.host import Host

FAILURES = (NotLeader, Overloaded, MembershipError, StorageError, Unanswered, Unreached)


class Administrator:
    """Works through what it is given; `busy` while it does."""

    def __init__(self, calls: Calls, hosts: Sequence[Host], checker: Checker, random: Random) -> None:
        self.calls, self.hosts, self.checker, self.random = calls, hosts, checker, random
        self.lost: list[Host] = []  # disks that are empty or damaged, of members that are not removed yet
        self._added: list[Host] = []  # machines that are being made members
        self._tasks = 0

    @property
    def busy(self) -> bool:
        return self._tasks > 0

    # -- what is known of the cluster

    def voters(self) -> list[Member]:
        """As last committed."""
        membership = self.checker.logs.membership
        return sorted(membership.voters) if membership is not None else []

    def is_settled(self) -> bool:
        """Whether no log holds a change that might still be committed, and nobody stands still who could begin one."""
        logs = self.checker.logs
        paused = any(host.process is not None and host.process.loop.paused for host in self.hosts)
        return not self.busy and logs.last_change <= logs.max_committed and not paused

    def may_lose_a_disk(self, host: Host) -> bool:
        """Whether what is committed survives this loss, and the others can go on."""
        voters = self.voters()
        return (
            self.is_settled()
            and len(voters) >= 3
            and host.member in voters
            and not self.lost
            and all(self.hosts[member.node - 1].member == member for member in voters)
        )

    def is_spare(self, host: Host) -> bool:
        """Whether its disk may be emptied: no log names it, and nobody is about to."""
        return host not in self._added and not self.checker.logs.names(host.member)

    # -- tasks

    def begin(self, work: Awaitable[None]) -> None:
        """Do this, unattended."""
        self._tasks += 1

        async def do() -> None:
            try:
                await work
            finally:
                self._tasks -= 1

        self.calls.loop.create_task(do())

    async def add(self, host: Host) -> None:
        """A spare machine, with a new disk."""
        host.kill()
        host.format(NOBODY)
        host.start()
        member = host.member
        self._added.append(host)
        await self._try_for(8.0, lambda raft: raft.add_voter(member, host.address), lambda: member in self.voters())
        self._added.remove(host)

    async def remove(self, member: Member) -> None:
        """For good. The process goes on for a while, as it does when nobody stops it."""
        await self._try_for(5.0, lambda raft: raft.remove_member(member), lambda: not self._is_known(member))

    async def replace(self, host: Host) -> None:
        """A lost disk: out with the member that it was, then in with an empty one under a new directory id."""
        await self._remove_at_last(host.member)
        self.lost.remove(host)
        await self.add(host)
        if host.member in self.voters():
            self.calls.setting.coverage.note("disk replaced")

    async def transfer(self, host: Host) -> None:
        await self._try_for(0.0, lambda raft: raft.transfer_leadership(host.node), lambda: False)

    async def tidy(self) -> None:
        """After the last fault: no member is left whose disk is gone. Learners that are alive are promoted."""
        for member in sorted(self._known_members()):
            if self.hosts[member.node - 1].member != member:
                await self._remove_at_last(member)

    async def _remove_at_last(self, member: Member) -> None:
        await self._try_for(None, lambda raft: raft.remove_member(member), lambda: not self._is_known(member))

    def _known_members(self) -> frozenset[Member]:
        membership = self.checker.logs.membership
        return membership.members if membership is not None else frozenset()

    def _is_known(self, member: Member) -> bool:
        return member in self._known_members()

    async def _try_for(
        self, seconds: float | None, ask: Callable[[RaftNode], Awaitable[None]], is_done: Callable[[], bool]
    ) -> None:
        """Ask whoever may lead, until it is done or the time is over; None: until it is done."""
        world = self.calls.setting.world
        end_s = world.now_s + seconds if seconds is not None else float("inf")
        host = self.random.choice(self.hosts)
        while True:
            try:
                await self.calls.call(host, ask, within_s=3.0)
            except FAILURES as error:
                self.calls.setting.trace("refused", "admin", type(error).__name__, error)
                leader = error.leader if isinstance(error, NotLeader) else None
                host = self.hosts[leader - 1] if leader else self.random.choice(self.hosts)
            else:
                return
            if is_done() or world.now_s >= end_s:
                return
            await asyncio.sleep(0.05 + 0.2 * self.random.random())
