"""How a node stands in its cluster: its role, what it leads, how far its followers are behind.

Read from the running objects when somebody asks: `/metrics`, or the supervisor of a local cluster, which asks over the
lifeline so that nothing has to be imported for it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ottla.controller.image import NO_LEADER

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.kafka.door import KafkaDoor
    from ottla.node.quorum_part import QuorumPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Records by which one follower is behind this leader: over all partitions, and in the worst of them."""

    total: int = 0
    most: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Of one moment. Bytes are counted since the node's start."""

    role: str  # in the metadata quorum: leader, voter, learner, observer
    controller: int  # the node that decides; -1: unknown
    fenced: bool
    partitions: int  # with a replica here
    led: int
    under_replicated: int  # of those led, as the next two
    under_min_isr: int
    by_isr: Mapping[int, int]  # size of the ISR: how many partitions
    leaderless: int  # of the whole cluster
    lag: Mapping[int, Lag] = field(default_factory=dict)  # by the follower's node
    received_bytes: int = 0
    sent_bytes: int = 0
    replication_received_bytes: int = 0
    replication_sent_bytes: int = 0

    @property
    def lag_records(self) -> int:
        """Of the follower and partition that is furthest behind."""
        return max((lag.most for lag in self.lag.values()), default=0)


def standing(broker: "Broker", quorum: "QuorumPart", door: "KafkaDoor") -> Standing:
    """Runs on the loop: about a microsecond for each partition of the cluster."""
    me, image, replication = broker.settings.node_id, broker.image, broker.replication
    leaderless = 0
    by_isr: Counter[int] = Counter()
    under_replicated = 0
    for topic in image.topics.values():
        for partition in topic.partitions:
            if partition.leader == me:
                by_isr[len(partition.isr)] += 1
                under_replicated += len(partition.isr) < len(partition.replicas)
            elif partition.leader == NO_LEADER:
                leaderless += 1
    active = broker.controller.active_id
    under_min_isr, lag = _followers(broker)
    return Standing(
        role=quorum.role,
        controller=-1 if active is None else active,
        fenced=broker.life is None or broker.life.fenced,
        partitions=len(broker.partitions),
        led=by_isr.total(),
        under_replicated=under_replicated,
        under_min_isr=under_min_isr,
        by_isr=dict(sorted(by_isr.items())),
        leaderless=leaderless,
        lag=lag,
        received_bytes=door.traffic.received_bytes,
        sent_bytes=door.traffic.sent_bytes,
        replication_received_bytes=replication.followers.received_bytes,
        replication_sent_bytes=replication.leaders.sent_bytes,
    )


def _followers(broker: "Broker") -> tuple[int, dict[int, Lag]]:
    """Partitions below `min.insync.replicas`, and how far each follower is behind."""
    under_min_isr = 0
    lag: dict[int, Lag] = {}
    for leading in broker.replication.leaderships():
        state = leading.state
        under_min_isr += not state.has_enough_replicas
        for node in state.followers:
            behind, known = state.lag(node), lag.get(node, Lag())
            lag[node] = Lag(total=known.total + behind, most=max(known.most, behind))
    return under_min_isr, lag
