"""Whoever runs the cluster: creates, deletes and moves topics, and replaces a node whose disk is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from ottla.controller.controller import Controller
from ottla.core.errors import ApiError, ErrorCode, OttlaError
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import alter_partition_reassignments_request as moving
from ottla.protocol.messages.create_topics_request import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.protocol.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from ottla.protocol.messages.elect_leaders_request import ElectLeadersRequest
from ottla.raft.driver import NOBODY
from tests.sim.cluster.calls import Calls, Reply, Unanswered, Unreached
from tests.sim.cluster.checker import Checker
from tests.sim.cluster.clients import FAILURES
from tests.sim.cluster.host import Host, Process
from tests.sim.raft.violation import Violation

CATCH_UP_S = 4.9  # a little less than `forwarding.CATCH_UP_MS`


class Administrator:
    """`busy` while it works at anything."""

    def __init__(self, calls: Calls, hosts: Sequence[Host], checker: Checker, random: Random) -> None:
        self.calls, self.hosts, self.checker, self.random = calls, hosts, checker, random
        self.replacing = False
        self.kept: list[Any] = []  # who writes to topics that stay
        self._tasks = self._count = 0

    @property
    def busy(self) -> bool:
        return self._tasks > 0

    def begin(self, work: Awaitable[None]) -> None:
        """Do this, unattended."""
        self._tasks += 1

        async def do() -> None:
            try:
                await work
            finally:
                self._tasks -= 1

        self.calls.loop.create_task(do())

    # -- topics

    async def create(self, name: str, partitions: int, factor: int) -> bool | None:
        """Whether it exists now; None when nobody knows."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=factor,
            configs=[CreatableTopicConfig(name="min.insync.replicas", value=str(min(2, factor)))],
        )
        asked_s = self.calls.setting.world.now_s

        def answered(process: Process, response: Any) -> None:
            created = response.topics[0]
            if created.error_code or self.calls.setting.world.now_s - asked_s > CATCH_UP_S:
                return
            known = process.broker.image.topics.get(name)
            if known is None or known.id != created.topic_id:
                raise self.checker.fail(
                    Violation("answers are in the image", f"node {process.host.node} says that it made {name}: {known}")
                )

        try:
            response = await self.calls.ask(
                self.random.choice(self.hosts), ApiKey.CREATE_TOPICS, CreateTopicsRequest(topics=[topic]),
                answered=answered,
            )  # fmt: skip
        except Unreached:
            return False
        except (Unanswered, ApiError):
            return None
        code = response.topics[0].error_code
        if code in (ErrorCode.NOT_CONTROLLER, ErrorCode.REQUEST_TIMED_OUT):
            return None
        return code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS)

    async def delete(self, name: str) -> bool | None:
        """Whether it is gone; None when nobody knows."""

        asked_s = self.calls.setting.world.now_s

        def answered(process: Process, response: Any) -> None:
            if response.responses[0].error_code or self.calls.setting.world.now_s - asked_s > CATCH_UP_S:
                return
            if name in process.broker.image.topics:
                raise self.checker.fail(
                    Violation("answers are in the image", f"node {process.host.node} says that {name} is gone")
                )

        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)])
        try:
            response = await self.calls.ask(
                self.random.choice(self.hosts), ApiKey.DELETE_TOPICS, request, answered=answered
            )
        except Unreached:
            return False
        except (Unanswered, ApiError):
            return None
        code = response.responses[0].error_code
        if code in (ErrorCode.NOT_CONTROLLER, ErrorCode.REQUEST_TIMED_OUT):
            return None
        return bool(code == ErrorCode.NONE)

    async def churn(self, use: Callable[[str], Any]) -> None:
        """A topic is created, written to, deleted, created again, a few times. `use` begins what writes to it."""
        coverage = self.calls.setting.coverage
        self._count += 1
        name = f"x{self._count}"
        for n in range(self.random.choice([1, 2, 4])):
            if await self.create(name, self.random.randrange(1, 3), self.random.choice([1, 2, 3])) is not True:
                return
            coverage.note("topic created")
            if n:
                coverage.note("name used again")
            user = use(name)
            await asyncio.sleep(self.random.choice([0.0, 0.02, 0.2]))
            if self.random.random() < 0.2:
                self.kept.append(user)
                return
            user.stopped = True
            if await self.delete(name) is not True:
                return
            coverage.note("topic deleted")

    async def move(self, name: str) -> None:
        """Other replicas for one of its partitions."""
        topic = self.checker.topic(name)
        if topic is None:
            return
        partition = self.random.choice(topic.partitions)
        nodes = [host.node for host in self.hosts]
        target = self.random.sample(nodes, min(len(nodes), self.random.choice([2, 3, 3])))
        request = moving.AlterPartitionReassignmentsRequest(
            topics=[
                moving.ReassignableTopic(
                    name=name,
                    partitions=[moving.ReassignablePartition(partition_index=partition.index, replicas=list(target))],
                )
            ]
        )
        await self._once(ApiKey.ALTER_PARTITION_REASSIGNMENTS, request)

    async def elect(self) -> None:
        """Preferred leaders, everywhere."""
        await self._once(ApiKey.ELECT_LEADERS, ElectLeadersRequest(election_type=0, topic_partitions=None))

    async def _once(self, api_key: ApiKey, request: Any) -> None:
        try:
            await self.calls.ask(self.random.choice(self.hosts), api_key, request)
        except FAILURES:
            return

    # -- brokers

    async def unregister(self, host: Host) -> None:
        """By mistake: the broker lives."""
        await self._controller(lambda controller: controller.unregister_broker(host.node), within_s=2.0)

    async def transfer(self, host: Host) -> None:
        """Another node is to decide."""

        def ask(process: Process) -> Awaitable[None]:
            assert process.raft is not None
            return process.raft.transfer_leadership(host.node)

        await self._on_active(ask, within_s=2.0)

    async def replace(self, host: Host) -> None:
        """Its machine is without power: take it out, and give it an empty disk if the cluster can spare the old one."""
        setting = self.calls.setting
        self.replacing = True
        try:
            gone = await self._controller(lambda controller: controller.replace_broker(host.node), within_s=20.0)
            if not gone or host.process is not None:
                host.held = False
                return
            host.lost = self.checker.disk_was_lost = True
            old = host.member
            await self._voters(lambda process: process.remove_member(old), lambda: old not in self._members())
            host.format(NOBODY)
            host.held = False
            host.start()
            new = host.member
            await self._voters(
                lambda process: process.add_voter(new, f"sim:{host.node}"), lambda: new in self._members()
            )
            setting.coverage.note("broker replaced")
        finally:
            self.replacing = False

    def _members(self) -> frozenset[Any]:
        membership = self.checker.logs.membership
        return membership.voters if membership is not None else frozenset()

    async def _voters(self, ask: Callable[[Any], Awaitable[None]], is_done: Callable[[], bool]) -> None:
        while not is_done():
            await self._on_active(lambda process: ask(process.raft), within_s=5.0)
            await asyncio.sleep(0.1)

    async def _controller(self, ask: Callable[[Controller], Awaitable[Any]], *, within_s: float) -> bool:
        return await self._on_active(lambda process: ask(process.controller), within_s=within_s)

    async def _on_active(self, ask: Callable[[Process], Awaitable[Any]], *, within_s: float) -> bool:
        """Ask the node that decides until it has done it, or the time is over."""
        end_s = self.calls.setting.world.now_s + within_s

        def begin(process: Process, reply: Reply) -> None:
            async def run() -> None:
                try:
                    await ask(process)
                except OttlaError as error:
                    reply(error)
                else:
                    reply(None)

            process.loop.create_task(run())

        while self.calls.setting.world.now_s < end_s:
            active = [host for host in self.hosts if (p := host.serving) is not None and p.controller.is_active]
            for host in active:
                try:
                    await self.calls.call(host, begin, within_s=3.0)
                except (OttlaError, Unanswered, Unreached) as error:
                    self.calls.setting.trace("refused", "admin", error)
                else:
                    return True
            await asyncio.sleep(0.1)
        return False
