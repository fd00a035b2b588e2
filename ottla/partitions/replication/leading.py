"""The role of a partition that this node leads with other replicas: `LeaderState`, the slots that read, the waiters.

A slot is one follower's subscription (`serving`). It is told when there is something to send; what it reads, and when,
is its connection's affair.
"""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.ports import Clock
from ottla.core.types import Buffer, NodeId
from ottla.partitions.replication.divergence import Agreed, BeginAnew, Diverged, LogView, compare
from ottla.partitions.replication.leader import LeaderState
from ottla.partitions.replication.types import AlterPartition, Assignment, IsrChange, Verdict
from ottla.partitions.results import Isolation, ReadResult

if TYPE_CHECKING:
    from ottla.partitions.partition import Partition


_BASE_OFFSET: Final = Struct(">q")


def first_offset_of(batches: Buffer) -> int:
    """The base offset of the first batch."""
    offset: int = _BASE_OFFSET.unpack_from(batches)[0]
    return offset


class Reader(Protocol):
    """A follower's subscription to this partition."""

    def grown(self) -> None:
        """There are new batches."""

    def moved(self) -> None:
        """The high watermark or the log start moved."""

    def end(self, code: ErrorCode) -> None:
        """Nothing comes any more; the follower is told why."""


class Leading:
    """One leader epoch. `propose_soon(self)` is called when the controller is to be asked for another ISR."""

    def __init__(
        self,
        partition: "Partition",
        assignment: Assignment,
        *,
        node: NodeId,
        lag_time_max_ms: float,
        broker_epochs: Mapping[NodeId, int],
        clock: Clock,
        propose_soon: Callable[["Leading"], None],
    ) -> None:
        self.partition = partition
        self.readers: dict[NodeId, Reader] = {}
        self._is_new = True
        self._clock, self._propose_soon = clock, propose_soon
        log = partition.log
        config = partition.config
        self.state = LeaderState(
            node=node,
            leader_epoch=assignment.leader_epoch,
            epoch_start_offset=log.log_end_offset,
            high_watermark=partition.high_watermark,
            durable_end_offset=log.synced_end_offset,
            replicas=assignment.replicas,
            isr=assignment.isr,
            partition_epoch=assignment.partition_epoch,
            min_insync_replicas=config.min_insync_replicas,
            lag_time_max_ms=lag_time_max_ms,
            now_ms=clock.monotonic_ms(),
            replication_factor=assignment.replication_factor,
        )
        self.state.eligible(broker_epochs)

    # -- what the partition asks and tells

    @property
    def has_enough_replicas(self) -> bool:
        return self.state.has_enough_replicas

    @property
    def latest_is_known(self) -> bool:
        return self.state.latest_is_known

    @property
    def others_have_all(self) -> bool:
        return len(self.state.isr) > 1

    def appended(self) -> None:
        if self._is_new:  # from here on the epoch can be told from its records, and its start is worth being saved
            self._is_new = False
            self.partition.epochs_changed = True
        self.state.log_end_offset = self.partition.log.log_end_offset
        for reader in self.readers.values():
            reader.grown()

    def begun_anew(self, offset: int) -> None:
        self.state.begun_anew(offset)
        for node in list(self.readers):  # they subscribe again, and are told to begin there too
            self.unsubscribe(node, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._advance()

    def synced(self, end_offset: int) -> None:
        state, partition = self.state, self.partition
        moved = state.synced(end_offset, partition.log.log_end_offset)
        if state.min_insync_replicas != partition.config.min_insync_replicas:
            moved |= state.configured(partition.config.min_insync_replicas)
            if not state.has_enough_replicas:
                partition.refuse_waiting(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        if moved:
            self._advance()

    def failed(self) -> None:
        self.end(ErrorCode.KAFKA_STORAGE_ERROR)

    # -- what followers tell

    def find_first_offset(self, end_offset: int, done: Callable[[int | ApiError], None]) -> None:
        """Where the first batch begins that a follower could get whose log ends at `end_offset`.

        That is not the log start when records were deleted up to the middle of a batch: replicas get whole ones.
        """
        partition = self.partition
        start = partition.log_start_offset
        if end_offset >= start or start == partition.log_end_offset:
            done(start)
            return

        def read(result: ReadResult | ApiError) -> None:
            if isinstance(result, ApiError):
                done(result)
            else:
                done(first_offset_of(result.buffers[0]) if result.size else start)

        try:
            found = partition.read(start, 1, isolation=Isolation.LOG_END, minimum_one_batch=True, done=read)
        except ApiError as error:
            done(error)
        else:
            if found is not None:
                read(found)

    def subscribe(
        self, node: NodeId, broker_epoch: int, end_offset: int, last_epoch: int, first_offset: int, reader: Reader
    ) -> Agreed | Diverged | BeginAnew:
        """A follower's log ends there; when they agree, `reader` is told of everything from now on."""
        self.unsubscribe(node, ErrorCode.NONE)
        partition = self.partition
        self.state.subscribed(node, broker_epoch)
        view = LogView(partition.epochs, first_offset, partition.log.log_end_offset)
        answer = compare(view, end_offset, last_epoch)
        if isinstance(answer, Agreed):
            self.readers[node] = reader
        return answer

    def unsubscribe(self, node: NodeId, code: ErrorCode, reader: Reader | None = None) -> None:
        """End what a follower reads; only if it is `reader`, when that is given."""
        found = self.readers.get(node)
        if found is not None and (reader is None or reader is found):
            del self.readers[node]
            found.end(code)

    def reported(self, node: NodeId, durable_end_offset: int, log_end_offset: int, log_start_offset: int) -> None:
        """How far a subscribed follower is."""
        state = self.state
        if state.reported(node, durable_end_offset, log_end_offset, log_start_offset, self._clock.monotonic_ms()):
            self._advance()
        if state.proposal_due:
            self._propose_soon(self)

    # -- what the controller says

    def committed(self, assignment: Assignment) -> None:
        """A new state of the partition in the same leader epoch."""
        state = self.state
        moved = state.committed(
            assignment.replicas,
            assignment.isr,
            assignment.partition_epoch,
            self._clock.monotonic_ms(),
            assignment.replication_factor,
        )
        for node in [node for node in self.readers if node not in state.followers]:
            self.unsubscribe(node, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if moved:
            self._advance()
        if not state.has_enough_replicas:
            # The high watermark stands still now: whoever waits would wait in vain, perhaps for long.
            self.partition.refuse_waiting(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        if state.proposal_due:
            self._propose_soon(self)

    def answered(self, change: IsrChange, verdict: Verdict) -> None:
        """The controller refused a proposal, or nobody knows what became of it; it is asked again at the next tick."""
        if self.state.answered(change, verdict, self._clock.monotonic_ms()):
            self._advance()

    def take_proposal(self) -> AlterPartition | None:
        """What is to be sent to the controller now."""
        change = self.state.take_proposal()
        if change is None:
            return None
        return AlterPartition(topic_id=self.partition.topic_id, index=self.partition.index, change=change)

    def tick(self) -> None:
        """Time passed."""
        state = self.state
        state.tick(self._clock.monotonic_ms())
        if state.proposal_due:
            self._propose_soon(self)

    def brokers_changed(self, broker_epochs: Mapping[NodeId, int], registered: Mapping[NodeId, int]) -> None:
        """Of those that are not fenced, and of all."""
        self.state.eligible(broker_epochs)
        for node in self.state.followers:
            if (epoch := registered.get(node)) is not None:
                self.state.restarted(node, epoch)
        self.tick()

    def log_start_moved(self) -> None:
        for reader in self.readers.values():
            reader.moved()

    def end(self, code: ErrorCode) -> None:
        """End this leadership: followers are told, and look for the next one."""
        for node in list(self.readers):
            self.unsubscribe(node, code)

    def _advance(self) -> None:
        self.partition.advance(self.state.high_watermark)
        for reader in self.readers.values():
            reader.moved()
