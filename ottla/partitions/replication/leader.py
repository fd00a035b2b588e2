"""What the leader of a partition knows of its followers: high watermark, ISR, and who may join or must leave.

    follower    unknown ── subscribes ──▶ catching up ── durable end ≥ high watermark and ≥ start of the leader epoch
                                              ▲                                         │ proposed: counts at once
                                              │                                         ▼
                                              └── behind for replica.lag.time.max.ms ── in the ISR
                                                  proposed: counts until the controller has committed it

Rules (KIP-497, KIP-966, and DESIGN's "What keeps it safe"):

- The high watermark is the smallest durable end over the *maximal* ISR: committed members, and those that were proposed
  to be added. Removed ones count until the controller has committed the removal, because it may elect them until then.
- It stands still while the committed ISR is below `min.insync.replicas`, and never goes back.
- Nobody joins before its durable end has reached the high watermark and the start of this leader epoch: it would be
  elected without records that were acknowledged.

Pure: events in; `high_watermark`, `has_enough_replicas` (whether the committed ISR reaches `min.insync.replicas`) and
`proposal_due` say what follows. With `ottla.flush.on.ack=false` the owner states written ends where durable ones are
meant.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ottla.core.types import NodeId
from ottla.partitions.replication.types import UNKNOWN_OFFSET, IsrChange, Verdict

REFUSED_PAUSE_MS: Final = 100.0  # until a change that the controller refused is proposed again


class Follower:
    """One follower's progress, as it told it in this leader epoch."""

    __slots__ = (
        "_mark_ms",
        "_mark_offset",
        "broker_epoch",
        "caught_up_ms",
        "durable_end_offset",
        "log_end_offset",
        "log_start_offset",
        "node",
    )

    def __init__(self, node: NodeId, now_ms: float) -> None:
        self.node = node
        self.broker_epoch = -1
        self.durable_end_offset = UNKNOWN_OFFSET
        self.log_end_offset = UNKNOWN_OFFSET
        self.log_start_offset = UNKNOWN_OFFSET
        self.caught_up_ms = now_ms  # the latest time of which it has all that the leader had then
        self._mark_offset, self._mark_ms = UNKNOWN_OFFSET, now_ms

    def forget(self) -> None:
        """What it told says nothing of it any more."""
        self.durable_end_offset = self.log_end_offset = UNKNOWN_OFFSET

    def progressed(self, durable_end_offset: int, leader_end_offset: int, now_ms: float) -> None:
        """Kafka's reckoning: it has caught up with what the leader had when it last reported, at least."""
        self.durable_end_offset = durable_end_offset
        if durable_end_offset >= leader_end_offset:
            self.caught_up_ms = now_ms
        elif durable_end_offset >= self._mark_offset:
            self.caught_up_ms = max(self.caught_up_ms, self._mark_ms)
        else:
            return  # the mark stands until it is reached
        self._mark_offset, self._mark_ms = leader_end_offset, now_ms

    def is_caught_up(self, leader_end_offset: int, now_ms: float, lag_time_max_ms: float) -> bool:
        return self.durable_end_offset >= leader_end_offset or now_ms - self.caught_up_ms <= lag_time_max_ms


class LeaderState:
    """One leader epoch of one partition. `durable_end_offset` and `log_end_offset` are the leader's own."""

    def __init__(
        self,
        *,
        node: NodeId,
        leader_epoch: int,
        epoch_start_offset: int,
        high_watermark: int,
        durable_end_offset: int,
        replicas: Sequence[NodeId],
        isr: Collection[NodeId],
        partition_epoch: int,
        min_insync_replicas: int,
        lag_time_max_ms: float,
        now_ms: float,
        replication_factor: int | None = None,
    ) -> None:
        self.node, self.leader_epoch, self.epoch_start_offset = node, leader_epoch, epoch_start_offset
        self.high_watermark = high_watermark
        self.durable_end_offset = durable_end_offset
        self.log_end_offset = epoch_start_offset
        self.min_insync_replicas, self.lag_time_max_ms = min_insync_replicas, lag_time_max_ms
        self.followers: dict[NodeId, Follower] = {}
        self.pending: IsrChange | None = None  # proposed, and nobody knows yet what became of it
        self.proposal_due = False  # `pending` is to be sent (again)
        self._paused_until_ms = now_ms
        self._eligible: Mapping[NodeId, int] | None = None  # broker epochs of those that are not fenced
        self._take(replicas, isr, partition_epoch, now_ms, replication_factor)

    # -- what follows from the state

    @property
    def maximal_isr(self) -> set[NodeId]:
        """Whoever the controller may take for in sync, now or soon."""
        return set(self.isr) | ({node for node, _ in self.pending.isr} if self.pending is not None else set())

    @property
    def effective_min_insync_replicas(self) -> int:
        """Never more than there are to be replicas: one that moves is two for a while, of which one is a copy that has
        just begun, and takes writes all the same.
        """
        return min(self.min_insync_replicas, self.replication_factor)

    @property
    def is_under_replicated(self) -> bool:
        return len(self.isr) < len(self.replicas)

    @property
    def latest_is_known(self) -> bool:
        """Whether the high watermark has passed the start of the epoch; before, it may be older than the last one that
        an earlier leader showed (KIP-207).
        """
        return self.high_watermark >= self.epoch_start_offset

    @property
    def low_watermark(self) -> int:
        """The smallest log start of the followers in the ISR; -1 while one is not known."""
        return min((self.followers[node].log_start_offset for node in self.isr if node != self.node), default=2**63 - 1)

    def lag(self, node: NodeId) -> int:
        """Records that a follower is behind by; all of the log when nothing is known of it."""
        return self.log_end_offset - max(self.followers[node].log_end_offset, 0)

    # -- events: True when the high watermark moved

    def configured(self, min_insync_replicas: int) -> bool:
        """The topic's config changed."""
        self.min_insync_replicas = min_insync_replicas
        self._count()
        return self._advance()

    def synced(self, durable_end_offset: int, log_end_offset: int) -> bool:
        """The leader's own log moved."""
        self.durable_end_offset, self.log_end_offset = durable_end_offset, log_end_offset
        return self._advance()

    def begun_anew(self, offset: int) -> None:
        """All records before `offset` are deleted, so there is nothing left of them to be replicated: it is committed.

        A follower counts again when it has begun there too.
        """
        self.high_watermark = max(self.high_watermark, offset)
        self.durable_end_offset = self.log_end_offset = offset

    def subscribed(self, node: NodeId, broker_epoch: int) -> None:
        """A follower begins, or begins again: what it told earlier does not count until it tells it anew."""
        follower = self.followers[node]
        follower.broker_epoch = broker_epoch
        follower.forget()

    def reported(
        self, node: NodeId, durable_end_offset: int, log_end_offset: int, log_start_offset: int, now_ms: float
    ) -> bool:
        """A follower, whose log is a beginning of the leader's, told how far it is."""
        follower = self.followers[node]
        follower.log_end_offset, follower.log_start_offset = log_end_offset, log_start_offset
        follower.progressed(durable_end_offset, self.log_end_offset, now_ms)
        moved = self._advance()
        if self.pending is None and node not in self._counted:
            self._maybe_expand(now_ms)
        return moved

    def restarted(self, node: NodeId, broker_epoch: int) -> None:
        """The metadata show another incarnation of a follower than the one that reported."""
        follower = self.followers.get(node)
        if follower is not None and follower.broker_epoch < broker_epoch:
            follower.forget()

    def eligible(self, broker_epochs: Mapping[NodeId, int]) -> None:
        """Brokers that are not fenced, with their epochs: nobody else may be proposed."""
        self._eligible = broker_epochs

    def committed(
        self,
        replicas: Sequence[NodeId],
        isr: Collection[NodeId],
        partition_epoch: int,
        now_ms: float,
        replication_factor: int | None = None,
    ) -> bool:
        """The controller committed a new state in the same leader epoch; older ones than the known one are ignored.

        Whatever was proposed is over: it was for an older partition epoch, so it is this state or will be refused.
        """
        if partition_epoch <= self.partition_epoch:
            return False
        self._take(replicas, isr, partition_epoch, now_ms, replication_factor)
        moved = self._advance()
        self._maybe_expand(now_ms)
        return moved

    def answered(self, change: IsrChange, verdict: Verdict, now_ms: float) -> bool:
        """The controller refused what was proposed, or nobody knows."""
        if change is not self.pending:
            return False
        if verdict is Verdict.REFUSED:
            self.pending, self.proposal_due = None, False
            self._paused_until_ms = now_ms + REFUSED_PAUSE_MS
            self._count()
            return self._advance()
        if verdict is Verdict.UNKNOWN:
            self.proposal_due = True
        return False

    def tick(self, now_ms: float) -> None:
        """Time passed: followers that lag behind for too long leave."""
        if self.pending is not None or now_ms < self._paused_until_ms:
            return
        kept = [
            node
            for node in self.isr
            if node == self.node or self.followers[node].is_caught_up(self.log_end_offset, now_ms, self.lag_time_max_ms)
        ]
        if len(kept) < len(self.isr):
            self._propose(kept)
        else:
            self._maybe_expand(now_ms)

    def take_proposal(self) -> IsrChange | None:
        """What is to be sent to the controller now."""
        if not self.proposal_due:
            return None
        self.proposal_due = False
        return self.pending

    # -- inside

    def _take(
        self,
        replicas: Sequence[NodeId],
        isr: Collection[NodeId],
        partition_epoch: int,
        now_ms: float,
        replication_factor: int | None,
    ) -> None:
        self.replicas, self.isr = tuple(replicas), tuple(isr)
        self.replication_factor = len(self.replicas) if replication_factor is None else replication_factor
        self.partition_epoch = partition_epoch
        self.pending, self.proposal_due = None, False
        followers = self.followers
        self.followers = {
            node: followers.get(node) or Follower(node, now_ms)
            for node in (*self.replicas, *self.isr)
            if node != self.node
        }
        self._count()

    def _count(self) -> None:
        self.has_enough_replicas = len(self.isr) >= self.effective_min_insync_replicas
        self._counted = {node: self.followers[node] for node in self.maximal_isr if node != self.node}

    def _advance(self) -> bool:
        end = self.durable_end_offset
        for follower in self._counted.values():
            if follower.durable_end_offset < end:
                end = follower.durable_end_offset
        if end <= self.high_watermark or not self.has_enough_replicas:
            return False
        self.high_watermark = end
        return True

    def _may_join(self, follower: Follower) -> bool:
        end = follower.durable_end_offset
        if end < self.high_watermark or end < self.epoch_start_offset or follower.node not in self.replicas:
            return False
        return self._eligible is None or self._eligible.get(follower.node) == follower.broker_epoch

    def _maybe_expand(self, now_ms: float) -> None:
        if self.pending is not None or now_ms < self._paused_until_ms:
            return
        joining = [f.node for f in self.followers.values() if f.node not in self.isr and self._may_join(f)]
        if joining:
            self._propose([*self.isr, *joining])

    def _propose(self, isr: Sequence[NodeId]) -> None:
        self.pending = IsrChange(
            leader_epoch=self.leader_epoch,
            partition_epoch=self.partition_epoch,
            isr=tuple((node, self.followers[node].broker_epoch if node != self.node else -1) for node in isr),
        )
        self.proposal_due = True
        self._count()
