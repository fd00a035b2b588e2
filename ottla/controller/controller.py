"""The active controller: everything that it can be asked to decide.

What is decided stands in a module for each kind of decision, how it gets committed in `decider`. On a node that does
not decide every request raises ApiError(NOT_CONTROLLER).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ottla.controller import fencing
from ottla.controller.alter_configs import alter_configs
from ottla.controller.alter_partition import alter_partitions
from ottla.controller.create_partitions import create_partitions
from ottla.controller.create_topics import create_topics
from ottla.controller.decider import Decider, Subscriber
from ottla.controller.decision import Decision
from ottla.controller.delete_topics import delete_topics
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.elect_leaders import balance_leaders, elect_leaders
from ottla.controller.features import update_features
from ottla.controller.found_cluster import found_cluster
from ottla.controller.image import MetadataImage, TopicImage
from ottla.controller.producer_ids import ProducerIdBlock, allocate_producer_ids
from ottla.controller.reassignment import alter_partition_reassignments, list_partition_reassignments
from ottla.controller.register_broker import register_broker
from ottla.controller.remove_broker import replace_broker, unregister_broker
from ottla.controller.requests import (
    AlteredPartition,
    AlterResource,
    BrokerHeartbeat,
    BrokerRegistration,
    CreatedTopic,
    DeletedTopic,
    ElectionType,
    FeatureUpdate,
    HeartbeatAnswer,
    IsrChange,
    MorePartitions,
    NewTopic,
    OngoingReassignment,
    PartitionError,
    Reassignment,
    TopicRef,
)
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.ports import Random
from ottla.core.types import ZERO_UUID, NodeId, Uuid

__all__ = ["Controller", "Subscriber"]


class Controller(Decider):
    """Called on the loop only."""

    def __init__(self, node_id: NodeId, *, random: Random, static_configs: Mapping[str, str]) -> None:
        super().__init__()
        self._node_id = node_id
        self._random = random
        self._static_configs = static_configs
        self._turn: int | None = None  # whose turn it is to lead a new partition
        self._registered_at: dict[tuple[NodeId, int], int] = {}  # offsets of registrations, by id and broker epoch
        self._stopping_at: dict[tuple[NodeId, int], int] = {}  # likewise of controlled shutdowns
        self._led_from = 0  # the offset at which this node began to decide

    # -- topics and configs

    async def create_topics(self, topics: Sequence[NewTopic], *, validate_only: bool = False) -> list[CreatedTopic]:
        """Create topics; each one succeeds or fails by itself."""

        def decide(image: MetadataImage) -> Decision[list[CreatedTopic]]:
            decision = create_topics(image, self._configs(image), topics, self._new_id, self._next_turn())
            self._advance(sum(max(0, topic.partitions) for topic in decision.result))
            return decision

        return await self._decide(decide, dry=validate_only)

    async def delete_topics(self, topics: Sequence[TopicRef]) -> list[DeletedTopic]:
        """Delete topics. Their names are free at once; files go later."""
        return await self._decide(lambda image: delete_topics(image, self._configs(image), topics))

    async def create_partitions(
        self, topics: Sequence[MorePartitions], *, validate_only: bool = False
    ) -> list[tuple[str, ApiError | None]]:
        """Add partitions to topics."""
        return await self._decide(lambda image: create_partitions(image, topics, self._next_turn()), dry=validate_only)

    async def alter_configs(
        self, resources: Sequence[AlterResource], *, validate_only: bool = False
    ) -> list[ApiError | None]:
        """Change configs; one outcome for each resource, in the order of the request."""
        return await self._decide(
            lambda image: alter_configs(image, self._configs(image), resources), dry=validate_only
        )

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

    async def allocate_producer_ids(self, broker_id: NodeId) -> ProducerIdBlock:
        """A block of producer ids that nobody else will get."""
        return await self._decide(lambda image: allocate_producer_ids(image, broker_id))

    # -- brokers

    async def register_broker(
        self, registration: BrokerRegistration, *, previous_is_live: bool = False, ready: bool = False
    ) -> int:
        """A broker has started: its broker epoch. See `register_broker.register_broker`."""
        quorum = self._required_quorum()
        decision = register_broker(
            self._tentative,
            self._configs(self._tentative),
            registration,
            previous_is_live=previous_is_live,
            ready=ready,
        )
        offset = await self._propose(quorum, decision)
        self._registered_at[registration.broker_id, decision.result] = offset
        return decision.result

    async def heartbeat(self, beat: BrokerHeartbeat) -> HeartbeatAnswer:
        """A broker says how it is: unfences it, or begins its controlled shutdown, when that is due."""
        quorum = self._required_quorum()
        image, broker = self._tentative, (beat.broker_id, beat.broker_epoch)
        registered_at = self._registered_at.get(broker, self._led_from)
        decision = fencing.heartbeat(image, self._configs(image), beat, registered_at=registered_at)
        answer = decision.result
        if decision.records:  # in the usual case there are none, and nothing is waited for
            offset = await self._propose(quorum, decision)
            if answer.in_controlled_shutdown:
                self._stopping_at[broker] = offset
        if not answer.in_controlled_shutdown:
            return answer
        # Of what is committed: another heartbeat may have come while the shutdown's records are under way.
        leads = sum(p.leader == beat.broker_id for topic in self._image.topics.values() for p in topic.partitions)
        return replace(answer, leads=leads, offset=self._stopping_at.get(broker, self._led_from))

    async def fence_brokers(self, brokers: Collection[NodeId]) -> list[NodeId]:
        """These are gone; those of them that were not fenced before."""
        return await self._decide(lambda image: fencing.fence(image, self._configs(image), brokers))

    async def resign_broker(self, broker_id: NodeId, broker_epoch: int, stalled: Collection[NodeId] = ()) -> int:
        """A broker whose disk stalls leaves leaderships and ISRs to others; how many it must still lead."""
        others = frozenset(stalled)
        return await self._decide(
            lambda image: fencing.resign(image, self._configs(image), broker_id, broker_epoch, others)
        )

    async def give_up(self, broker_id: NodeId, broker_epoch: int, offline: Collection[tuple[Uuid, int]]) -> None:
        """Replicas whose files failed leave leaderships and ISRs to others."""
        failed = frozenset(offline)
        await self._decide(lambda image: fencing.give_up(image, self._configs(image), broker_id, broker_epoch, failed))

    async def unregister_broker(self, broker_id: NodeId) -> None:
        """A broker is gone for good."""
        await self._decide(lambda image: unregister_broker(image, self._configs(image), broker_id))

    async def replace_broker(self, broker_id: NodeId, *, accept_loss: bool = False) -> list[tuple[str, int]]:
        """A broker's disk is lost: see `remove_broker.replace_broker`."""
        return await self._decide(
            lambda image: replace_broker(image, self._configs(image), broker_id, accept_loss=accept_loss)
        )

    # -- leaders and replicas

    async def alter_partitions(
        self, broker_id: NodeId, broker_epoch: int, changes: Sequence[IsrChange]
    ) -> list[AlteredPartition]:
        """A leader asks for other in-sync replicas; one outcome for each, in the order of the request."""
        return await self._decide(
            lambda image: alter_partitions(image, self._configs(image), broker_id, broker_epoch, changes)
        )

    async def elect_leaders(
        self, election: ElectionType, partitions: Sequence[tuple[str, int]] | None
    ) -> list[PartitionError]:
        """Elect preferred leaders, or any; of these partitions or (None) of all."""
        return await self._decide(lambda image: elect_leaders(image, self._configs(image), election, partitions))

    async def balance_leaders(self) -> int:
        """Give partitions back to their preferred leaders; how many."""
        return await self._decide(balance_leaders)

    async def alter_partition_reassignments(
        self, wanted: Sequence[Reassignment], *, allow_replication_factor_change: bool = True
    ) -> list[PartitionError]:
        """Move replicas, or cancel moves; each partition succeeds or fails by itself."""
        return await self._decide(
            lambda image: alter_partition_reassignments(
                image,
                self._configs(image),
                wanted,
                allow_replication_factor_change=allow_replication_factor_change,
            )
        )

    async def list_partition_reassignments(
        self, partitions: Sequence[tuple[str, int]] | None
    ) -> list[OngoingReassignment]:
        """What is being moved, of these partitions or (None) of all."""
        return await self._decide(lambda image: Decision(list_partition_reassignments(image, partitions)))

    # -- the cluster

    async def found_cluster(self, nodes: int, cluster_id: Uuid) -> bool:
        """Give a new cluster of so many nodes its defaults; before the first broker registers."""
        return await self._decide(lambda image: found_cluster(image, nodes, cluster_id))

    async def update_features(self, updates: Sequence[FeatureUpdate], *, validate_only: bool = False) -> None:
        """Raise or lower levels of features, all or none."""
        await self._decide(lambda image: update_features(image, updates), dry=validate_only)

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        """See `StateMachine`."""
        super().leadership_changed(leader, term)
        self._registered_at.clear()
        self._stopping_at.clear()
        self._led_from = self._image.offset

    def _configs(self, image: MetadataImage) -> EffectiveConfigs:
        return EffectiveConfigs(image, self._static_configs, self._node_id)

    def _next_turn(self) -> int:
        if self._turn is None:
            self._turn = self._random.randrange(0, 1 << 16)
        return self._turn

    def _advance(self, turns: int) -> None:
        self._turn = self._next_turn() + turns

    def _new_id(self) -> Uuid:
        # Never one that is taken, and never one that shows with a leading dash, which commands would take for a flag.
        taken = self._tentative.topics_by_id
        while (new := Uuid(self._random.randbytes(16))) in taken or new == ZERO_UUID or new[0] >> 2 == 62:
            pass
        return new
