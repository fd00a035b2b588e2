"""All promises of a cluster in one place: who is to be looked at when, and what clients were told.

What is particular to the quorum stands in `tests.sim.raft.logs`, to images in `images`, to replicas in `replicas`, to
markers in `transactions.ends`.
"""

from collections.abc import Mapping, Sequence
from traceback import format_exception
from typing import Any

from ottla.controller.image import MetadataImage, PartitionImage, TopicImage
from ottla.core.types import NodeId
from ottla.partitions.partition import Partition
from ottla.partitions.replication.types import PartitionId
from ottla.raft.core import Member
from ottla.raft.core.messages import AppendResponse, Message, VoteResponse
from ottla.testing.sim.loop import SimLoop
from tests.sim.cluster.host import Host, Process
from tests.sim.cluster.images import Images
from tests.sim.cluster.replicas import Replicas
from tests.sim.cluster.setting import Setting
from tests.sim.cluster.transactions.ends import Ends
from tests.sim.raft.logs import Logs, Watch
from tests.sim.raft.violation import Violation
from tests.sim.replication.contents import Held

MANY_TURNS = 100_000


class Checker:
    """Raises `Violation` out of the world's step."""

    def __init__(self, setting: Setting, hosts: Mapping[NodeId, Host]) -> None:
        self.setting, self.hosts = setting, hosts
        self.logs = Logs(setting.coverage, setting.meshes)  # type: ignore[arg-type]  # of the network it knows `cut`
        self.images = Images(setting)
        self.replicas = Replicas(self)
        self.ends = Ends()
        self.failure: Violation | None = None
        self.disk_was_lost = False
        self._now_s, self._turns = 0.0, 0
        self._watches: dict[SimLoop, tuple[Watch, Process]] = {}
        setting.checker = self
        setting.world.after_each = self._after
        setting.meshes.on_send = self._sent
        setting.meshes.on_event = self._happened

    def fail(self, violation: Violation) -> Violation:
        """To be raised by the next step, wherever it was noticed."""
        self.failure = self.failure or violation
        return violation

    # -- what is known

    @property
    def image(self) -> MetadataImage:
        """The newest that any node has applied."""
        return self.images.newest

    def partition(self, key: PartitionId) -> PartitionImage | None:
        """As last committed, as far as any node knows."""
        topic = self.image.topics_by_id.get(key[0])
        return topic.partitions[key[1]] if topic is not None else None

    def topic(self, name: str) -> TopicImage | None:
        return self.image.topics.get(name)

    # -- nodes come and go

    def opened(self, process: Process) -> None:
        """A metadata log was read, and nothing was done yet."""
        assert process.raft is not None
        self._watches[process.loop] = (Watch(self.logs, process.raft.core), process)
        self.replicas.opened(process)
        if process.controller.image.offset:
            self.setting.coverage.note("image restored")

    def ended(self, process: Process) -> None:
        if self._watches.pop(process.loop, None) is not None and hasattr(process, "logs"):
            self.replicas.ended(process)

    # -- after each step

    def _after(self, loop: SimLoop) -> None:
        now_s = self.setting.world.now_s
        if now_s != self._now_s:
            self._now_s, self._turns = now_s, 0
        self._turns += 1
        if self._turns > MANY_TURNS:
            raise Violation("time goes on", f"{loop.name} is busy without end at {now_s} s")
        found = self._watches.get(loop)
        if found is not None and loop.alive:
            watch, process = found
            watch.look()
            self.images.look(process)
            if hasattr(process, "broker"):
                self.replicas.look(process)
                self.ends.look(process)
        if self.failure is not None:
            raise self.failure
        if loop.failures and loop.alive:
            self._unexpected(loop)

    def _unexpected(self, loop: SimLoop) -> None:
        context = loop.failures.pop()
        error = context.get("exception")
        if isinstance(error, Violation):
            raise error
        where = "".join(format_exception(error)[-4:]) if error is not None else ""
        raise Violation("nothing unexpected", f"{loop.name}: {context.get('message')}: {where}") from error

    # -- what nodes say

    def _sent(self, message: Message) -> None:
        match message:
            case VoteResponse(granted=True, pre=False):
                known = self.logs.votes.setdefault((message.source, message.term), message.target)
                if known != message.target:
                    raise self.fail(Violation("one vote a term", f"{message.source} votes twice in {message.term}"))
            case AppendResponse(matched=True):
                self._promised(message.source, message.term, message.index)

    def _promised(self, member: Member, term: int, index: int) -> None:
        acknowledged = self.logs.acknowledged
        acknowledged[member, term] = max(index, acknowledged.get((member, term), 0))

    def _happened(self, what: str, source: NodeId, target: NodeId, detail: Any) -> None:
        self.setting.told.add(self.setting.world.now_s, f"{source}→{target}", what, detail)

    # -- what clients are told

    def acknowledged(self, process: Process, partition: Partition, held: Held) -> None:
        """A client with acks=all is being told so."""
        try:
            self.replicas.acknowledged(process, partition, held)
        except Violation as violation:
            raise self.fail(violation) from None

    def fetched(self, process: Process, key: PartitionId, batches: Sequence[Held]) -> None:
        """A consumer is being given these."""
        for held in batches:
            known = self.replicas.truth.get(key, {}).get(held.base_offset)
            if known is None or known.crc != held.crc:
                raise self.fail(
                    Violation("committed records stay", f"node {process.host.node} serves {held}, committed is {known}")
                )
