"""All replicas of one node: what the wiring of a node uses.

    assignments, peers ──▶ follow ──▶ roles of partitions ──▶ connections
    `propose(batch)`   ◀── ISR changes of all partitions, gathered for one turn of the loop
    answered ──▶ for each of a batch, an error of the controller; or that nobody knows (REQUEST_TIMED_OUT)

How it is used: `open` before anything else (it reads the checkpoint of high watermarks); `listen`; `registered` with
the broker epoch of this process as soon as the controller has acknowledged its registration; then `follow` with every
image, after the `PartitionManager` has created what is new in it. A successful AlterPartition needs no answer here: the
metadata bring what was committed. `answered` must come for every other end of a request, or that partition's ISR stays
as it is.

No leadership begins before the metadata show this very registration: what an image from before it says was meant for an
earlier incarnation, which may have sent batches under that epoch and lost them. With the registration the controller
ends every leadership that the node held, and raises the epoch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from ottla.core.error_codes import ErrorCode
from ottla.core.ports import Clock, Listener, Network, Random, Timer
from ottla.core.types import NodeId
from ottla.partitions.checkpoints import HIGH_WATERMARK_FILE, TopicPartition, read_offsets
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.partitions.replication.dialling import FollowerSession, FollowerSessions
from ottla.partitions.replication.following import Following
from ottla.partitions.replication.handshake import Identity
from ottla.partitions.replication.leading import Leading
from ottla.partitions.replication.messages import Messages
from ottla.partitions.replication.serving import TICK_MS, LeaderSessions
from ottla.partitions.replication.types import (
    NO_LEADER,
    AlterPartition,
    Assignment,
    PartitionId,
    Peer,
    Peers,
    verdict,
)

RETRY_MS: Final = 150.0  # of a proposal to change an ISR that was not taken
LAG_TIME_MAX_MS: Final = 30_000.0  # replica.lag.time.max.ms

Propose = Callable[[Sequence[AlterPartition]], None]


class ReplicaManager:
    """See the module."""

    def __init__(
        self,
        identity: Identity,
        partitions: PartitionManager,
        *,
        network: Network,
        clock: Clock,
        random: Random,
        propose: Propose,
        lag_time_max_ms: float = LAG_TIME_MAX_MS,
    ) -> None:
        """`random` must be unpredictable outside of tests."""
        self.identity, self.lag_time_max_ms = identity, lag_time_max_ms
        self.leaders = LeaderSessions(identity, self, clock, random)
        self.followers = FollowerSessions(identity, network, clock, random)
        self._partitions, self._network, self._clock, self._propose = partitions, network, clock, propose
        self._node = identity.node
        self._peers: Peers = {}
        self._eligible: Mapping[NodeId, int] = {}
        self._known: dict[PartitionId, Assignment] = {}
        self._watermarks: dict[TopicPartition, int] = {}
        self._started: set[PartitionId] = set()  # whose high watermark was taken from the checkpoint
        self._unready: dict[PartitionId, None] = {}  # assignments that wait for the metadata of a broker
        self._proposing: dict[Leading, None] = {}
        self._retrying: dict[Leading, None] = {}
        self._listener: Listener | None = None
        self._timer: Timer | None = None
        self._lag_checked_ms = clock.monotonic_ms()
        self._stopped = False

    # -- life

    def open(self) -> None:
        """Read what was known to be committed. Blocks: at start, before the first checkpoint is written."""
        self._watermarks = read_offsets(self._partitions.environment.disk.files, HIGH_WATERMARK_FILE)

    def listen(self, host: str, port: int) -> int:
        """Serve followers there; the port. Raises OSError."""
        self._listener = self._network.listen(host, port, self.leaders.accept)
        self._tick()
        return self._listener.port

    def registered(self, broker_epoch: int) -> None:
        """The controller acknowledged the registration of this process."""
        changed = self.identity.broker_epoch != broker_epoch
        self.identity.broker_epoch = broker_epoch
        if changed and not self._stopped:
            self.followers.identity_changed()
            self.settle()

    def close(self) -> None:
        """End all connections, and follow nothing more. What is appended from now on goes nowhere."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.close()
        self.followers.close()
        self.leaders.close()

    # -- metadata

    def follow(self, assignments: Iterable[Assignment], peers: Peers, *, gone: Iterable[PartitionId] = ()) -> None:
        """A newer image: all of its brokers, the partitions of this node that changed, and those that are gone."""
        if self._stopped:
            return
        for partition_id in gone:
            self.forget(partition_id)
        if peers != self._peers:
            self._take_peers(peers)
        for assignment in assignments:
            known = self._known.get(assignment.id)
            if known is None or _is_newer(assignment, known):
                self._known[assignment.id] = assignment
                self._apply(assignment)
        self.settle()
        self.followers.prune()

    def forget(self, partition_id: PartitionId) -> None:
        """The partition is deleted, or this node has no replica of it any more."""
        assignment = self._known.pop(partition_id, None)
        self._unready.pop(partition_id, None)
        self._started.discard(partition_id)
        partition = self._find(assignment) if assignment is not None else None
        if partition is not None:
            self._end(partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    @property
    def peers(self) -> Peers:
        """The brokers of the newest image."""
        return self._peers

    def answered(self, proposal: AlterPartition, code: ErrorCode) -> None:
        """How a proposal ended; REQUEST_TIMED_OUT when nobody knows."""
        leading = self.leading((proposal.topic_id, proposal.index))
        if leading is not None and code is not ErrorCode.NONE:
            leading.answered(proposal.change, verdict(code))
            if not self._retrying:
                self._clock.call_later(RETRY_MS, self._retry)
            self._retrying[leading] = None

    def attach(self, messages: Messages) -> None:
        """Who asks other nodes and answers them over the connections of replicas."""
        self.leaders.messages = self.followers.messages = messages

    def send_message(self, node: NodeId, message: bytes) -> bool:
        """Ask a node that leads something which this one follows; False when there is no connection for that."""
        return self.followers.send_message(node, message)

    def throttle(self, rate_bytes_s: float | None) -> None:
        """How fast followers of this node may catch up (`leader.replication.throttled.rate`)."""
        self.leaders.throttle.rate_bytes_s = rate_bytes_s

    # -- what others ask

    def leading(self, partition: PartitionId) -> Leading | None:
        """The leadership of a partition that this node leads with others."""
        assignment = self._known.get(partition)
        found = self._find(assignment) if assignment is not None else None
        role = found.role if found is not None else None
        return role if isinstance(role, Leading) else None

    def is_current(self, node: NodeId, broker_epoch: int) -> bool:
        """Whether no younger incarnation of that node is known."""
        peer = self._peers.get(node)
        return peer is None or broker_epoch >= peer.broker_epoch

    def leaderships(self) -> Iterable[Leading]:
        """All: for metrics. Lag, ISR and under-replication stand in `Leading.state`."""
        return filter(None, map(self.leading, list(self._known)))

    def oldest_write_age_ms(self) -> float:
        """How long the oldest unfinished write or sync of this node has been under way; 0 when there is none.

        A node whose disk stalls goes on answering its heartbeats, but is to resign what it leads.
        """
        oldest = self._partitions.environment.oldest_write_ms
        return 0.0 if oldest is None else self._clock.monotonic_ms() - oldest

    def step_aside(self) -> None:
        """The controller was told that this node's disk stalls, and had others lead where others are in sync.

        Clients are sent to them at once. This node's own copy of the metadata may rest on the same disk, and would not
        say so before it answers again; whoever waited here would wait as long, and so would all who ask anew.
        """
        for leading in self.leaderships():
            if len(leading.state.isr) > 1:
                leading.partition.step_aside()

    def step_back(self) -> None:
        """The disk answers again: serve what this node leads still."""
        for leading in self.leaderships():
            leading.partition.step_back()

    # -- roles

    def _take_peers(self, peers: Peers) -> None:
        self._peers = dict(peers)
        self._eligible = {peer.node: peer.broker_epoch for peer in peers.values() if not peer.fenced}
        registered = {peer.node: peer.broker_epoch for peer in peers.values()}
        self.leaders.brokers_changed()
        self.followers.peers_changed(self._peers)
        for leading in self.leaderships():
            leading.brokers_changed(self._eligible, registered)

    def settle(self) -> None:
        """Go on with what waited: for metadata, or for a partition that is created only now (call it then)."""
        for partition_id in list(self._unready):
            del self._unready[partition_id]
            self._apply(self._known[partition_id])

    def _apply(self, assignment: Assignment) -> None:
        partition = self._find(assignment)
        if partition is None:
            self._unready[assignment.id] = None
            return
        if assignment.id not in self._started:
            self._started.add(assignment.id)
            if len(assignment.replicas) > 1:
                partition.start_replicated(self._watermarks.get((assignment.topic, assignment.index), 0))
        role = partition.role
        registered = self._is_registered()
        leads = assignment.leader == self._node and registered
        if leads and isinstance(role, Leading) and role.state.leader_epoch == assignment.leader_epoch:
            role.committed(assignment)
            return
        if partition.beginning_anew:  # what came in another role before the log is another one would go with the old
            partition.step_aside()
            partition.when_begun_anew = partial(self._apply_latest, assignment.id)
            return
        if leads:
            if isinstance(role, Following) and role.busy:
                role.when_idle(partial(self._apply_latest, assignment.id))
            else:
                self._lead(partition, assignment)
            return
        peer = self._peers.get(assignment.leader) if registered and assignment.leader != self._node else None
        if peer is None and assignment.leader != NO_LEADER:
            self._unready[assignment.id] = None
        self._follow(partition, assignment, peer)

    def _apply_latest(self, partition_id: PartitionId) -> None:
        assignment = self._known.get(partition_id)
        if assignment is not None:
            self._apply(assignment)

    def _lead(self, partition: Partition, assignment: Assignment) -> None:
        self._end(partition, ErrorCode.FENCED_LEADER_EPOCH)
        if len(assignment.replicas) == 1:
            partition.become_leader(assignment.leader_epoch, None)
            partition.on_written()
            return
        leading = Leading(
            partition,
            assignment,
            node=self._node,
            lag_time_max_ms=self.lag_time_max_ms,
            broker_epochs=self._eligible,
            clock=self._clock,
            propose_soon=self._propose_soon,
        )
        partition.become_leader(assignment.leader_epoch, leading)

    def _follow(self, partition: Partition, assignment: Assignment, peer: Peer | None) -> None:
        """None: there is no leader, or no way to it yet."""
        role = partition.role
        if not isinstance(role, Following):
            self._end(partition, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            role = Following(partition, self._clock)
            if partition.error is not None:
                role.failed()
        leader, epoch = assignment.leader if peer is not None else NO_LEADER, assignment.leader_epoch
        if partition.role is role and (role.state.leader, role.state.leader_epoch) == (leader, epoch):
            return
        partition.become_follower(epoch, role)
        self._leave_link(role)
        link: FollowerSession | None = None
        if peer is not None:
            link = self.followers.link(peer)
            link.join(role)
        role.follow(leader, epoch, link)

    def _end(self, partition: Partition, code: ErrorCode) -> None:
        role = partition.role
        if isinstance(role, Leading):
            role.end(code)
            self._proposing.pop(role, None)
            self._retrying.pop(role, None)
        elif isinstance(role, Following):
            self._leave_link(role)
            role.end()

    def _leave_link(self, following: Following) -> None:
        link = following.link
        if isinstance(link, FollowerSession):
            link.leave(following)

    def _is_registered(self) -> bool:
        peer = self._peers.get(self._node)
        return peer is not None and peer.broker_epoch == self.identity.broker_epoch

    def _find(self, assignment: Assignment) -> Partition | None:
        partition = self._partitions.get(assignment.topic, assignment.index)
        return partition if partition is not None and partition.topic_id == assignment.topic_id else None

    # -- the controller, and time

    def _propose_soon(self, leading: Leading) -> None:
        if not self._proposing:
            self._clock.call_soon(self._send_proposals)
        self._proposing[leading] = None

    def _send_proposals(self) -> None:
        proposing, self._proposing = self._proposing, {}
        proposals = [p for leading in proposing if (p := leading.take_proposal()) is not None]
        if proposals and not self._stopped:
            self._propose(proposals)

    def _tick(self) -> None:
        if self._stopped:
            return
        now_ms = self._clock.monotonic_ms()
        self.leaders.tick(now_ms)
        self.followers.tick(now_ms)
        if now_ms - self._lag_checked_ms >= self.lag_time_max_ms / 2:
            self._lag_checked_ms = now_ms
            for leading in self.leaderships():
                leading.tick()
        self._timer = self._clock.call_later(TICK_MS, self._tick)

    def _retry(self) -> None:
        retrying, self._retrying = self._retrying, {}
        if not self._stopped:
            for leading in retrying:
                leading.tick()


def _is_newer(assignment: Assignment, known: Assignment) -> bool:
    return (assignment.leader_epoch, assignment.partition_epoch) > (known.leader_epoch, known.partition_epoch)
