"""A controller that is deliberately dumb: one object, no log, and the real rules of elections and of the ISR.

It hears nodes and tells them through the world's time, and never fails. Sources: KIP-497, KIP-841, KIP-903.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ottla.core.error_codes import ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.partitions.replication.types import NO_LEADER, AlterPartition, Assignment, PartitionId, Peer
from ottla.testing.sim.loop import World

PORT = 9000
Published = tuple[list[Assignment], dict[NodeId, Peer]]


@dataclass
class State:
    """One partition."""

    topic: str
    topic_id: Uuid
    index: int
    replicas: tuple[NodeId, ...]
    isr: list[NodeId]
    leader: NodeId = NO_LEADER
    leader_epoch: int = 0
    partition_epoch: int = 0
    history: list[tuple[float, NodeId, int, tuple[NodeId, ...]]] = field(default_factory=list)


class FakeController:
    def __init__(self, world: World, random: Random, states: list[State]) -> None:
        self.world, self.random = world, random
        self.partitions: dict[PartitionId, State] = {(s.topic_id, s.index): s for s in states}
        self.brokers: dict[NodeId, Peer] = {}
        self.subscribers: dict[NodeId, Callable[[Published], None]] = {}
        self.cut: set[NodeId] = set()  # nodes that hear nothing, and of which nothing is heard
        self.lost_answers = 0.0
        self.slowest_s = 0.02
        self.after_change: Callable[[], None] = lambda: None
        self._due_s: dict[NodeId, float] = {}
        self._last_epoch = 0

    # -- what nodes say

    def register(
        self,
        node: NodeId,
        subscriber: Callable[[Published], None],
        done: Callable[[int], None],
        alive: Callable[[], bool],
    ) -> None:
        """A process begins: what its predecessor led ends. It asks as long as it is `alive` and not heard."""

        def arrive() -> None:
            if not alive():
                return
            if node in self.cut:
                self.world.call_later(0.2, arrive)
                return
            self.fence(node)
            self._last_epoch += 1
            self.brokers[node] = Peer(node=node, broker_epoch=self._last_epoch, host=str(node), port=PORT)
            self.subscribers[node] = subscriber
            epoch = self._last_epoch
            self.world.call_later(self._delay_s(), done, epoch)
            self._elect_leaderless()
            self.publish()

        self.world.call_later(self._delay_s(), arrive)

    def alter_partition(
        self, node: NodeId, broker_epoch: int, proposals: list[AlterPartition],
        answer: Callable[[AlterPartition, ErrorCode], None],
    ) -> None:  # fmt: skip
        """Answers come one by one; lost ones as timeouts."""

        def arrive() -> None:
            if node in self.cut:
                for proposal in proposals:
                    self.world.call_later(1.0, answer, proposal, ErrorCode.REQUEST_TIMED_OUT)
                return
            changed = False
            for proposal in proposals:
                code = self._alter(node, broker_epoch, proposal)
                changed |= code is ErrorCode.NONE
                if self.random.random() < self.lost_answers:
                    self.world.call_later(1.0, answer, proposal, ErrorCode.REQUEST_TIMED_OUT)
                else:
                    self.world.call_later(self._delay_s(), answer, proposal, code)
            if changed:
                self.publish()

        self.world.call_later(self._delay_s(), arrive)

    def _alter(self, node: NodeId, broker_epoch: int, proposal: AlterPartition) -> ErrorCode:
        state, change = self.partitions[proposal.topic_id, proposal.index], proposal.change
        registered = self.brokers.get(node)
        if registered is None or registered.broker_epoch != broker_epoch:
            return ErrorCode.STALE_BROKER_EPOCH
        if state.leader != node:
            return ErrorCode.INVALID_REQUEST
        if change.leader_epoch != state.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        if change.partition_epoch != state.partition_epoch:
            return ErrorCode.INVALID_UPDATE_VERSION
        isr = [member for member, _ in change.isr]
        if node not in isr or not set(isr) <= set(state.replicas):
            return ErrorCode.INVALID_REQUEST
        for member, epoch in change.isr:
            broker = self.brokers.get(member)
            if member != node and (broker is None or broker.fenced or broker.broker_epoch != epoch):
                return ErrorCode.INELIGIBLE_REPLICA
        state.isr = [member for member in state.replicas if member in isr]
        self._changed(state)
        return ErrorCode.NONE

    # -- what the controller does by itself

    def fence(self, node: NodeId) -> None:
        """Out of every ISR, but for the last one; and it leads nothing."""
        broker = self.brokers.get(node)
        if broker is not None:
            self.brokers[node] = Peer(
                node=node, broker_epoch=broker.broker_epoch, host=broker.host, port=broker.port, fenced=True
            )
        for state in self.partitions.values():
            if node not in state.isr:
                continue
            if len(state.isr) > 1:
                state.isr = [member for member in state.isr if member != node]
            if state.leader == node:
                self._elect(state)
            self._changed(state)

    def lost(self, node: NodeId, broker_epoch: int) -> None:
        """The session of that incarnation ended."""
        broker = self.brokers.get(node)
        if broker is not None and broker.broker_epoch == broker_epoch and not broker.fenced:
            self.fence(node)
            self.publish()

    def unfence(self, node: NodeId, broker_epoch: int) -> None:
        """Its heartbeats are heard again."""
        broker = self.brokers.get(node)
        if broker is not None and broker.fenced and broker.broker_epoch == broker_epoch:
            self.brokers[node] = Peer(node=node, broker_epoch=broker_epoch, host=broker.host, port=broker.port)
            self._elect_leaderless()
            self.publish()

    def move_leader(self, state: State) -> None:
        """To another member of the ISR, as for balance."""
        others = [m for m in state.isr if m != state.leader and self._is_alive(m)]
        if others and state.leader != NO_LEADER:
            state.leader = self.random.choice(others)
            state.leader_epoch += 1
            self._changed(state)
            self.publish()

    def _elect_leaderless(self) -> None:
        for state in self.partitions.values():
            if state.leader == NO_LEADER and any(map(self._is_alive, state.isr)):
                self._elect(state)
                self._changed(state)

    def _elect(self, state: State) -> None:
        state.leader = next((m for m in state.isr if self._is_alive(m)), NO_LEADER)
        state.leader_epoch += 1

    def _is_alive(self, node: NodeId) -> bool:
        broker = self.brokers.get(node)
        return broker is not None and not broker.fenced

    def _changed(self, state: State) -> None:
        state.partition_epoch += 1
        state.history.append((self.world.now_s, state.leader, state.leader_epoch, tuple(state.isr)))
        assert state.isr and set(state.isr) <= set(state.replicas)

    # -- what nodes hear

    def image(self) -> Published:
        assignments = [
            Assignment(
                topic=s.topic, topic_id=s.topic_id, index=s.index, leader=s.leader, leader_epoch=s.leader_epoch,
                replicas=s.replicas, isr=tuple(s.isr), partition_epoch=s.partition_epoch,
            )
            for s in self.partitions.values()
        ]  # fmt: skip
        return assignments, dict(self.brokers)

    def publish(self) -> None:
        """To everybody, in order, at different times."""
        self.after_change()
        image = self.image()
        for node in self.subscribers:
            if node not in self.cut:
                self._tell(node, image)

    def catch_up(self, node: NodeId) -> None:
        """The node hears again."""
        if node in self.subscribers:
            self._tell(node, self.image())

    def _tell(self, node: NodeId, image: Published) -> None:
        subscriber = self.subscribers[node]
        due_s = max(self._due_s.get(node, 0.0), self.world.now_s + self._delay_s())
        self._due_s[node] = due_s
        self.world.call_at(due_s, subscriber, image)

    def _delay_s(self) -> float:
        return self.random.random() * self.slowest_s
