"""Bugs to plant: each breaks one rule of replication, and the simulation must notice.

A plant is a function that patches with `patch(object, name, value)`.
"""

from collections.abc import Callable
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.partitions import mirroring
from ottla.partitions.partition import Partition
from ottla.partitions.recovery import RecoveredLog
from ottla.partitions.replication import leading as leading_module
from ottla.partitions.replication.divergence import Agreed, Diverged, LogView
from ottla.partitions.replication.follower import Subscribe
from ottla.partitions.replication.following import Following
from ottla.partitions.replication.leader import Follower, LeaderState
from ottla.partitions.replication.leading import Leading
from ottla.partitions.replication.manager import ReplicaManager
from ottla.partitions.replication.serving import LeaderSessions
from ottla.partitions.replication.types import Peer
from tests.sim.replication.controller import PORT, FakeController

Patch = Callable[[Any, str, Any], None]
Plant = Callable[[Patch], None]

PLANTS: dict[str, Plant] = {}
OF_MIRRORS: set[str] = set()  # those that only mirrors meet


def plant(name: str, *, of_mirrors: bool = False) -> Callable[[Plant], Plant]:
    def add(function: Plant) -> Plant:
        PLANTS[name] = function
        if of_mirrors:
            OF_MIRRORS.add(name)
        return function

    return add


@plant("the high watermark comes from appended ends, not from durable ones")
def appended(patch: Patch) -> None:
    synced, reported = LeaderState.synced, LeaderState.reported
    patch(LeaderState, "synced", lambda self, durable, end: synced(self, end, end))
    patch(
        LeaderState,
        "reported",
        lambda self, node, durable, end, start, now_ms: reported(self, node, end, end, start, now_ms),
    )


@plant("the leader does not wait for its own disk")
def leader_not_durable(patch: Patch) -> None:
    synced = LeaderState.synced
    patch(LeaderState, "synced", lambda self, durable, end: synced(self, 1 << 62, end))


@plant("a follower calls durable what it has in memory")
def not_durable(patch: Patch) -> None:
    data = Following.data

    def eager(self: Following, *arguments: Any) -> None:
        data(self, *arguments)
        self.synced(self.partition.log.log_end_offset)

    patch(Following, "data", eager)
    patch(Following, "synced", lambda self, end: _tell(self, self.partition.log.log_end_offset))


def _tell(self: Following, end: int) -> None:
    self.synced_end_offset = end
    if self.link is not None:
        self.link.durable_soon(self)


@plant("the high watermark advances while the ISR is below min.insync.replicas")
def below_minimum(patch: Patch) -> None:
    advance = LeaderState._advance

    def careless(self: LeaderState) -> bool:
        before, self.has_enough_replicas = self.has_enough_replicas, True
        try:
            return advance(self)
        finally:
            self.has_enough_replicas = before

    patch(LeaderState, "_advance", careless)


@plant("records are acknowledged before min.insync.replicas have them")
def early_acknowledgement(patch: Patch) -> None:
    wait = Partition._wait
    patch(Partition, "_wait", lambda self, acks, end, done: wait(self, 1, end, done))


@plant("a follower truncates to its high watermark instead of by epochs")
def to_the_high_watermark(patch: Patch) -> None:
    do = Following._do

    def cut_first(self: Following, actions: list[Any]) -> None:
        partition = self.partition
        mark = partition.high_watermark
        if any(isinstance(action, Subscribe) for action in actions) and partition.log_end_offset > mark:
            partition.truncate(
                mark, lambda _: do(self, actions) if self.link is not None and self.link.online else None
            )
        else:
            do(self, actions)

    patch(Following, "_do", cut_first)
    patch(leading_module, "compare", _by_length)


def _by_length(leader: LogView, end_offset: int, last_epoch: int) -> Agreed | Diverged:
    if end_offset > leader.log_end_offset:
        return Diverged(last_epoch, leader.log_end_offset)
    return Agreed()


@plant("epochs are not compared: a log that is not longer counts as the same")
def no_comparison(patch: Patch) -> None:
    patch(leading_module, "compare", _by_length)


@plant("a shrunk ISR counts before the controller has committed it")
def early_shrink(patch: Patch) -> None:
    def isr(self: LeaderState) -> set[int]:
        return {node for node, _ in self.pending.isr} if self.pending is not None else set(self.isr)

    patch(LeaderState, "maximal_isr", property(isr))


@plant("a proposed member does not count before the controller has committed it")
def late_expansion(patch: Patch) -> None:
    patch(LeaderState, "maximal_isr", property(lambda self: set(self.isr)))


@plant("a returning replica joins the ISR one record early")
def one_early(patch: Patch) -> None:
    may_join = LeaderState._may_join

    def early(self: LeaderState, follower: Follower) -> bool:
        follower.durable_end_offset += 1
        try:
            return may_join(self, follower)
        finally:
            follower.durable_end_offset -= 1

    patch(LeaderState, "_may_join", early)


@plant("a replica joins without having reached the start of the leader's epoch")
def before_the_epoch(patch: Patch) -> None:
    may_join = LeaderState._may_join

    def early(self: LeaderState, follower: Follower) -> bool:
        start, self.epoch_start_offset = self.epoch_start_offset, 0
        try:
            return may_join(self, follower)
        finally:
            self.epoch_start_offset = start

    patch(LeaderState, "_may_join", early)


@plant("a follower's high watermark is its log end")
def above_the_high_watermark(patch: Patch) -> None:
    offsets = Following.offsets
    patch(Following, "offsets", lambda self, mark, start: offsets(self, 1 << 62, start))


@plant("a restarted node goes on in the epoch that it led")
def same_epoch(patch: Patch) -> None:
    register = FakeController.register

    def unnoticed(self: FakeController, node: Any, subscriber: Any, done: Any, alive: Any) -> None:
        known = self.brokers.get(node)
        if known is None or known.fenced:
            register(self, node, subscriber, done, alive)
            return

        def arrive() -> None:
            self._last_epoch += 1
            self.brokers[node] = Peer(node=node, broker_epoch=self._last_epoch, host=str(node), port=PORT)
            self.subscribers[node] = subscriber
            self.world.call_later(self._delay_s(), done, self._last_epoch)
            self.publish()

        self.world.call_later(self._delay_s(), arrive)

    patch(FakeController, "register", unnoticed)


@plant("a node leads by what its metadata said before it registered")
def old_metadata(patch: Patch) -> None:
    patch(ReplicaManager, "_is_registered", lambda self: True)


@plant("an old incarnation is accepted")
def old_incarnation(patch: Patch) -> None:
    """What it told counts for the one that is registered now, and whoever proposes names that one."""
    propose = LeaderState._propose
    patch(LeaderState, "restarted", lambda self, node, epoch: None)
    patch(LeaderSessions, "brokers_changed", lambda self: None)
    patch(Follower, "forget", lambda self: None)

    def may_join(self: LeaderState, follower: Follower) -> bool:
        return follower.durable_end_offset >= max(self.high_watermark, self.epoch_start_offset)

    def with_new_epochs(self: LeaderState, isr: Any) -> None:
        for node, follower in self.followers.items():
            follower.broker_epoch = (self._eligible or {}).get(node, -1)
        propose(self, isr)

    patch(LeaderState, "_may_join", may_join)
    patch(LeaderState, "_propose", with_new_epochs)


@plant("an empty disk counts as in sync")
def empty_disk(patch: Patch) -> None:
    may_join = LeaderState._may_join

    def join(self: LeaderState, follower: Follower) -> bool:
        return may_join(self, follower) or (follower.durable_end_offset == 0 and follower.broker_epoch >= 0)

    patch(LeaderState, "_may_join", join)


@plant("a truncation leaves the state of producers")
def producers_stay(patch: Patch) -> None:
    restart = Partition.restart

    def forgetful(self: Partition, recovered: RecoveredLog) -> None:
        if hasattr(self, "log"):
            recovered.producers = self.producers
        restart(self, recovered)

    patch(Partition, "restart", forgetful)


@plant("a start takes all of its log for committed")
def start_committed(patch: Patch) -> None:
    def start(self: Partition, high_watermark: int) -> None:
        self.high_watermark = self.log.log_end_offset

    patch(Partition, "start_replicated", start)


@plant("a new leader shows its high watermark before it has passed the start of its epoch")
def shown_early(patch: Patch) -> None:
    patch(LeaderState, "latest_is_known", property(lambda self: True))
    patch(Leading, "latest_is_known", property(lambda self: True))


@plant("a leader keeps the followers of its last epoch")
def kept_slots(patch: Patch) -> None:
    def end(self: Leading, code: Any) -> None:
        """Nobody is told."""

    patch(Leading, "end", end)


@plant("a mirror is not asked where it believes that the log ends", of_mirrors=True)
def any_end(patch: Patch) -> None:
    def check(partition: Partition, expected_end_offset: int) -> None:
        """Whatever comes is appended."""

    patch(mirroring, "_check_end", check)


@plant("a mirrored batch keeps the leader epoch of its source", of_mirrors=True)
def foreign_epoch(patch: Patch) -> None:
    def keep(view: memoryview, position: int, base_offset: int, leader_epoch: int) -> None:
        """As it is."""

    patch(mirroring, "patch_base_offset", keep)


@plant("a mirrored append is acknowledged before it is committed", of_mirrors=True)
def acknowledged_early(patch: Patch) -> None:
    patch(Partition, "when_committed", lambda self, end_offset, done: done(ErrorCode.NONE))
