"""The active controller: turns requests into decisions, has their records committed, and replays them.

Requests are decided one after the other against the state that all earlier decisions lead to, committed or not, so that
many proposals can be under way at once and one sync commits them together. That state comes from replaying their
records, and becomes the image when they are committed; then subscribers see it, and whoever asked is answered.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ottla.controller.alter_configs import alter_configs
from ottla.controller.brokers import register_broker
from ottla.controller.create_partitions import create_partitions
from ottla.controller.create_topics import create_topics
from ottla.controller.decision import Decision
from ottla.controller.delete_topics import delete_topics
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import MetadataDelta, MetadataImage, TopicImage
from ottla.controller.producer_ids import ProducerIdBlock, allocate_producer_ids
from ottla.controller.replay import ImageBuilder
from ottla.controller.requests import (
    AlterResource,
    BrokerRegistration,
    CreatedTopic,
    DeletedTopic,
    MorePartitions,
    NewTopic,
    TopicRef,
)
from ottla.controller.snapshot import delta_between, snapshot_records
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, StorageError
from ottla.core.ports import Random
from ottla.core.types import ZERO_UUID, NodeId, Uuid
from ottla.raft.quorum import Entry, NotLeader, Quorum, Snapshot
from ottla.v1 import metadata_pb2 as pb

R = TypeVar("R")

Subscriber = Callable[[MetadataImage, MetadataDelta], None]


@dataclass(frozen=True, slots=True)
class _Proposed:
    """A batch under way, and what its replay after all batches before it leads to."""

    data: bytes
    image: MetadataImage
    delta: MetadataDelta


class Controller:
    """The state machine of the metadata quorum, and the way to change it. Called on the loop only."""

    def __init__(self, node_id: NodeId, *, random: Random, static_configs: Mapping[str, str]) -> None:
        self._node_id = node_id
        self._random = random
        self._static_configs = static_configs
        self._quorum: Quorum | None = None
        self._image = MetadataImage()
        self._tentative = self._image  # what `_proposed` leads to
        self._proposed: deque[_Proposed] = deque()  # in the order of proposal, not yet committed
        self._subscribers: list[Subscriber] = []

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
        return self._quorum is not None and self._quorum.is_leader

    @property
    def active_id(self) -> NodeId | None:
        """The node whose controller decides, as far as this one knows."""
        return self._quorum.leader if self._quorum is not None else None

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber(image, delta)` after each committed batch; returns the function that ends it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    # What is asked of it. Each raises ApiError(NOT_CONTROLLER) on a node that does not decide.

    async def create_topics(self, topics: Sequence[NewTopic], *, validate_only: bool = False) -> list[CreatedTopic]:
        """Create topics; each one succeeds or fails by itself."""
        return await self._decide(
            lambda image: create_topics(image, self._defaults(image), topics, self._new_id), dry=validate_only
        )

    async def delete_topics(self, topics: Sequence[TopicRef]) -> list[DeletedTopic]:
        """Delete topics. Their names are free at once; files go later."""
        return await self._decide(lambda image: delete_topics(image, self._defaults(image), topics))

    async def create_partitions(
        self, topics: Sequence[MorePartitions], *, validate_only: bool = False
    ) -> list[tuple[str, ApiError | None]]:
        """Add partitions to topics."""
        return await self._decide(lambda image: create_partitions(image, topics), dry=validate_only)

    async def alter_configs(
        self, resources: Sequence[AlterResource], *, validate_only: bool = False
    ) -> list[ApiError | None]:
        """Change configs; one outcome for each resource, in the order of the request."""
        return await self._decide(
            lambda image: alter_configs(image, self._defaults(image), resources), dry=validate_only
        )

    async def register_broker(self, registration: BrokerRegistration) -> int:
        """A broker has started: returns its broker epoch."""
        return await self._decide(lambda image: register_broker(image, registration))

    async def allocate_producer_ids(self, broker_id: NodeId) -> ProducerIdBlock:
        """A block of producer ids that nobody else will get."""
        return await self._decide(lambda image: allocate_producer_ids(image, broker_id))

    async def ensure_internal_topic(
        self, name: str, *, partitions: int, replication_factor: int = -1, configs: Mapping[str, str] | None = None
    ) -> TopicImage:
        """The topic, created when it does not exist. Raises the ApiError that kept it from being created."""
        topic = self._image.topics.get(name)
        if topic is not None:
            return topic
        (created,) = await self.create_topics(
            [
                NewTopic(
                    name=name, partitions=partitions, replication_factor=replication_factor, configs=dict(configs or {})
                )
            ]
        )
        if created.error is not None and created.error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            raise created.error
        await self.barrier()  # also when somebody else's creation was still under way
        topic = self._image.topics.get(name)
        if topic is None:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"The topic {name} was deleted while it was created.")
        return topic

    async def barrier(self) -> None:
        """Return when the image holds whatever was decided or committed before the call."""
        quorum = self._required_quorum()
        if self._proposed:
            await self._propose(quorum, [])  # committed behind them, and changes nothing
            return
        try:
            await quorum.read_barrier()
        except NotLeader as error:
            raise ApiError(ErrorCode.NOT_CONTROLLER, str(error)) from error
        except StorageError as error:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error

    def _defaults(self, image: MetadataImage) -> EffectiveConfigs:
        return EffectiveConfigs(image, self._static_configs, self._node_id)

    def _new_id(self) -> Uuid:
        # Never one that is taken, and never one that shows with a leading dash, which commands would take for a flag.
        taken = self._tentative.topics_by_id
        while (new := Uuid(self._random.randbytes(16))) in taken or new == ZERO_UUID or new[0] >> 2 == 62:
            pass
        return new

    def _required_quorum(self) -> Quorum:
        if self._quorum is None or not self._quorum.is_leader:
            raise ApiError(ErrorCode.NOT_CONTROLLER, str(NotLeader(self.active_id)))
        return self._quorum

    async def _decide(self, decide: Callable[[MetadataImage], Decision[R]], *, dry: bool = False) -> R:
        quorum = self._required_quorum()
        decision = decide(self._tentative)
        if dry:
            return decision.result
        if not decision.records:
            # The answer may rest on decisions that are not committed yet (e.g. a topic that already exists).
            if self._proposed:
                await self.barrier()
            return decision.result
        await self._propose(quorum, decision.records)
        return decision.result

    async def _propose(self, quorum: Quorum, records: Sequence[pb.MetadataRecord]) -> None:
        image, delta = ImageBuilder(self._tentative).replay(records).build(0, 0)
        proposed = _Proposed(pb.MetadataBatch(records=records).SerializeToString(), image, delta)
        self._tentative = image
        self._proposed.append(proposed)
        try:
            await quorum.propose(proposed.data)
        except NotLeader as error:
            raise ApiError(ErrorCode.NOT_CONTROLLER, str(error)) from error
        except StorageError as error:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error

    # The state machine

    def apply(self, entry: Entry) -> bytes:
        """Replay one committed entry. Whoever proposed it knows the result already, from the decision."""
        if self._proposed and self._proposed[0].data == entry.data:
            ours = self._proposed.popleft()
            image, delta = replace(ours.image, offset=entry.index, epoch=entry.term), ours.delta
        else:
            # Somebody else's: what was proposed here was decided on a state that is not the log's.
            self._proposed.clear()
            self._tentative = self._image
            batch = pb.MetadataBatch.FromString(entry.data)
            image, delta = ImageBuilder(self._image).replay(batch.records).build(entry.index, entry.term)
        if not self._proposed:
            self._tentative = image
        self._publish(image, delta)
        return b""

    def snapshot(self) -> Callable[[], bytes]:
        """The image now; what is returned encodes it and may run in a thread."""
        image = self._image
        return lambda: pb.MetadataBatch(records=snapshot_records(image)).SerializeToString()

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the state by a snapshot's."""
        batch = pb.MetadataBatch.FromString(snapshot.data)
        image, _ = ImageBuilder(MetadataImage()).replay(batch.records).build(snapshot.index, snapshot.term)
        before = self._image
        self._proposed.clear()
        self._tentative = image
        self._publish(image, delta_between(before, image))

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        """What was proposed and is not applied may be lost: decide from the committed state again."""
        self._proposed.clear()
        self._tentative = self._image

    def _publish(self, image: MetadataImage, delta: MetadataDelta) -> None:
        self._image = image
        for subscriber in tuple(self._subscribers):
            subscriber(image, delta)
