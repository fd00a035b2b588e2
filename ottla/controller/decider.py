"""The state machine of the metadata quorum, and how decisions get into it.

Requests are decided one after the other against the state that all earlier decisions lead to, committed or not, so that
many proposals can be under way at once and one sync commits them together. That state comes from replaying their
records, and becomes the image when they are committed; then subscribers see it, and whoever asked is answered.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from ottla.controller.decision import Decision
from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.controller.replay import BATCH_VERSION, ImageBuilder, NewerMetadata, batch_of
from ottla.controller.snapshot import delta_between, snapshot_records
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, StorageError
from ottla.core.types import NodeId
from ottla.raft.quorum import Committed, Entry, NotLeader, Overloaded, Quorum, Snapshot
from ottla.v1 import metadata_pb2 as pb

R = TypeVar("R")

Subscriber = Callable[[MetadataImage, MetadataDelta], None]

MAX_BATCH_BYTES: Final = 1 << 20
"""A larger entry would hold up what else the quorum has to say."""


@dataclass(frozen=True, slots=True)
class _Proposed:
    """A batch under way, and what its replay after all batches before it leads to."""

    data: bytes
    image: MetadataImage
    delta: MetadataDelta


class Decider:
    """Implements `StateMachine`. Called on the loop only."""

    def __init__(self) -> None:
        self._quorum: Quorum | None = None
        self._image = MetadataImage()
        self._tentative = self._image  # what `_proposed` leads to
        self._proposed: deque[_Proposed] = deque()  # in the order of proposal, not yet committed
        self._subscribers: list[Subscriber] = []
        self._failure: NewerMetadata | None = None
        self.told_leader: NodeId | None = None  # by a voter, when this node has no part in the quorum
        self.when_leadership_changes: list[Callable[[], None]] = []  # `is_active` may be another now
        self.on_failure: Callable[[Exception], None] | None = None  # the log cannot be followed: the node must stop

    def attach(self, quorum: Quorum) -> None:
        """Use this quorum from now on; it was opened with this controller as its state machine."""
        self._quorum = quorum

    @property
    def image(self) -> MetadataImage:
        """The newest committed state."""
        return self._image

    @property
    def is_active(self) -> bool:
        """Whether this node decides."""
        return self._quorum is not None and self._quorum.is_leader and self._failure is None

    @property
    def active_id(self) -> NodeId | None:
        """The node whose controller decides, as far as this one knows."""
        known = self._quorum.leader if self._quorum is not None else None
        return self.told_leader if known is None else known

    @staticmethod
    def at(image: MetadataImage) -> "Decider":
        """One that has replayed the log so far, decides nothing, and is followed by nobody."""
        decider = Decider()
        decider._image = decider._tentative = image
        return decider

    @property
    def quorum(self) -> Quorum:
        """The quorum that this node leads. Raises ApiError(NOT_CONTROLLER) when it leads none."""
        return self._required_quorum()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber(image, delta)` after each committed batch; returns the function that ends it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    async def barrier(self) -> None:
        """Return when the image holds whatever was decided or committed before the call."""
        quorum = self._required_quorum()
        if self._proposed:
            await self._propose(quorum, Decision(None))  # committed behind them, and changes nothing
        else:
            await self._answered(quorum.read_barrier())

    # -- decisions

    async def _decide(self, decide: Callable[[MetadataImage], Decision[R]], *, dry: bool = False) -> R:
        """The result of a decision, once its records are committed.

        Raises ApiError: NOT_CONTROLLER on a node that does not decide, or no longer: the records may then be committed
        all the same; THROTTLING_QUOTA_EXCEEDED when too much waits to be committed, and nothing was done;
        KAFKA_STORAGE_ERROR; and what the decision raises.
        """
        quorum = self._required_quorum()
        decision = decide(self._tentative)
        if dry:
            return decision.result
        if decision.records:
            await self._propose(quorum, decision)
        elif self._proposed:
            # The answer may rest on decisions that are not committed yet (e.g. a topic that already exists).
            await self.barrier()
        return decision.result

    async def _propose(self, quorum: Quorum, decision: Decision[R]) -> int:
        """The index under which all of it is committed."""
        waiting: list[Awaitable[Committed]] = []
        # All batches are proposed before anything is awaited, so that no other decision gets between them.
        for records, data in _encoded(decision):
            before = self._tentative
            image, delta = ImageBuilder(before).replay(records).build(0, 0)
            proposed = _Proposed(data, image, delta)
            self._tentative = image
            self._proposed.append(proposed)
            waiting.append(quorum.propose(data))
            if _is_refused(waiting[-1]):
                if self._proposed and self._proposed[-1] is proposed:
                    self._proposed.pop()
                    self._tentative = before
                break
        outcome, failure = 0, None
        for one in waiting:
            try:
                outcome = (await self._answered(one)).index
            except ApiError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return outcome

    async def _answered(self, waiting: Awaitable[R]) -> R:
        try:
            return await waiting
        except NotLeader as error:  # also ProposalLost: whether it was committed the caller finds out from the image
            raise ApiError(ErrorCode.NOT_CONTROLLER, str(error)) from error
        except Overloaded as error:
            raise ApiError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, str(error)) from error
        except StorageError as error:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error

    def _required_quorum(self) -> Quorum:
        if self._failure is not None:
            raise ApiError(ErrorCode.NOT_CONTROLLER, str(self._failure))
        if self._quorum is None or not self._quorum.is_leader:
            raise ApiError(ErrorCode.NOT_CONTROLLER, str(NotLeader(self.active_id)))
        return self._quorum

    # -- the state machine

    def apply(self, entry: Entry) -> bytes:
        """Replay one committed entry. Whoever proposed it knows the result already, from the decision."""
        if self._failure is not None:
            return b""
        try:
            image, delta = self._replayed(entry)
        except NewerMetadata as error:
            self._fail(error)
            return b""
        if not self._proposed:
            self._tentative = image
        self._publish(image, delta)
        return b""

    def _replayed(self, entry: Entry) -> tuple[MetadataImage, MetadataDelta]:
        if self._proposed and self._proposed[0].data == entry.data:
            ours = self._proposed.popleft()
            return replace(ours.image, offset=entry.index, epoch=entry.term), ours.delta
        # Somebody else's: what was proposed here was decided on a state that is not the log's.
        self._proposed.clear()
        self._tentative = self._image
        return ImageBuilder(self._image).replay(batch_of(entry.data).records).build(entry.index, entry.term)

    def snapshot(self) -> Callable[[], bytes]:
        """The image now; what is returned encodes it and may run in a thread."""
        image = self._image
        return lambda: _encode(list(snapshot_records(image)), offset=image.offset)

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the state by a snapshot's. At start this raises NewerMetadata."""
        try:
            batch = batch_of(snapshot.data)
            # Not the index of the snapshot: the quorum's own entries may lie before it, and whoever applied all of them
            # has an image of the same state under the offset of the last batch, which must be the same.
            offset = batch.offset or snapshot.index
            image, _ = ImageBuilder(MetadataImage()).replay(batch.records).build(offset, snapshot.term)
        except NewerMetadata as error:
            self._fail(error)
            return
        before = self._image
        self._proposed.clear()
        self._tentative = image
        self._publish(image, delta_between(before, image))

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        """What was proposed and is not applied may be lost: decide from the committed state again."""
        self._proposed.clear()
        self._tentative = self._image
        for tell in self.when_leadership_changes:
            tell()

    def _fail(self, error: NewerMetadata) -> None:
        """Others understand more of the log than this node: it must not answer from what it makes of the rest."""
        self._failure = error
        if self.on_failure is None:
            raise error
        self.on_failure(error)

    def _publish(self, image: MetadataImage, delta: MetadataDelta) -> None:
        self._image = image
        for subscriber in tuple(self._subscribers):
            subscriber(image, delta)


def _encode(records: Sequence[pb.MetadataRecord], *, offset: int = 0) -> bytes:
    return pb.MetadataBatch(version=BATCH_VERSION, records=records, offset=offset).SerializeToString()


def _encoded(decision: Decision[R]) -> list[tuple[list[pb.MetadataRecord], bytes]]:
    """The decision's batches, and each as bytes."""
    data = _encode(decision.records)
    if len(data) <= MAX_BATCH_BYTES:
        return [(decision.records, data)]
    return [(records, _encode(records)) for records in decision.batches(MAX_BATCH_BYTES)]


def _is_refused(waiting: Any) -> bool:
    """Whether a proposal failed at once, so that it is not in the log and what follows must not count on it."""
    done = getattr(waiting, "done", None)
    return done is not None and done() and waiting.exception() is not None
