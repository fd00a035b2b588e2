"""The cluster's controller as a broker sees it: the image is here, whoever decides may be elsewhere.

What handlers of forwarded requests ask is asked on the controller's own node (`forwarding`), so it goes straight to the
controller there. What a broker wants for itself is put into the protocol's own messages when another node decides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ottla.broker.context import RequestContext
from ottla.broker.control.forwarding import Forwarding
from ottla.controller.controller import Controller, Subscriber
from ottla.controller.image import MetadataImage, TopicImage
from ottla.controller.producer_ids import ProducerIdBlock
from ottla.controller.requests import AlteredPartition, CreatedTopic, IsrChange, NewTopic
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId
from ottla.protocol.apis import VERSIONS, ApiKey
from ottla.protocol.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from ottla.protocol.messages.create_topics_request import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)

OWN_REQUEST: Final = "OTTLA"
"""The listener of a broker's own requests: no client gets an endpoint out of their answers."""


class ControllerAccess:
    """One broker's."""

    def __init__(self, local: Controller, node_id: NodeId, forwarding: Callable[[], Forwarding]) -> None:
        self.local = local
        self._node_id = node_id
        self._forwarding = forwarding

    @property
    def image(self) -> MetadataImage:
        """The newest committed state that this node has applied."""
        return self.local.image

    @property
    def is_active(self) -> bool:
        """Whether this node decides."""
        return self.local.is_active

    @property
    def active_id(self) -> NodeId | None:
        """The node that decides, as far as this one knows."""
        return self.local.active_id

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """See `Controller.subscribe`."""
        return self.local.subscribe(subscriber)

    async def create_topics(self, topics: Sequence[NewTopic]) -> list[CreatedTopic]:
        """Create topics, wherever that is decided. Raises ApiError when no controller was found in time."""
        if self.is_active:
            return await self.local.create_topics(topics)
        response = await self._ask(ApiKey.CREATE_TOPICS, CreateTopicsRequest(topics=[_creatable(t) for t in topics]))
        return [
            CreatedTopic(
                name=one.name,
                error=ApiError(ErrorCode(one.error_code), one.error_message or "") if one.error_code else None,
                id=one.topic_id,
                partitions=one.num_partitions,
                replication_factor=one.replication_factor,
            )
            for one in response.topics
        ]

    async def ensure_internal_topic(
        self, name: str, *, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> TopicImage:
        """The topic, created when it does not exist. Raises the ApiError that kept it from being created."""
        topic = self.image.topics.get(name)
        if topic is not None:
            return topic
        wanted = NewTopic(
            name=name, partitions=partitions, replication_factor=replication_factor, configs=dict(configs)
        )
        (created,) = await self.create_topics([wanted])
        if created.error is not None and created.error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            raise created.error
        await self.barrier()  # also when somebody else's creation was still under way
        topic = self.image.topics.get(name)
        if topic is None:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"The topic {name} was deleted while it was created.")
        return topic

    async def barrier(self) -> None:
        """Return when the image here holds what this node was told of before. (Answers of another node are waited for
        as they come.)
        """
        if self.is_active:
            await self.local.barrier()

    async def allocate_producer_ids(self, broker_epoch: int) -> ProducerIdBlock:
        """A block of producer ids that nobody else will get. Raises ApiError."""
        if self.is_active:
            return await self.local.allocate_producer_ids(self._node_id)
        request = AllocateProducerIdsRequest(broker_id=self._node_id, broker_epoch=broker_epoch)
        response = await self._ask(ApiKey.ALLOCATE_PRODUCER_IDS, request)
        if response.error_code:
            raise ApiError(ErrorCode(response.error_code))
        return ProducerIdBlock(response.producer_id_start, response.producer_id_len)

    async def alter_partitions(self, broker_epoch: int, changes: Sequence[IsrChange]) -> list[AlteredPartition]:
        """Ask for other in-sync replicas of partitions that this broker leads. Raises ApiError."""
        if self.is_active:
            return await self.local.alter_partitions(self._node_id, broker_epoch, changes)
        from ottla.broker.control.isr import from_message, to_message

        request = to_message(self._node_id, broker_epoch, changes)
        return from_message(await self._ask(ApiKey.ALTER_PARTITION, request))

    async def _ask(self, api_key: ApiKey, request: Any) -> Any:
        context = RequestContext(listener=OWN_REQUEST, api_version=VERSIONS[api_key][1], client_id=None)
        return await self._forwarding().ask(api_key, request, context)


def _creatable(topic: NewTopic) -> CreatableTopic:
    return CreatableTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        assignments=[
            CreatableReplicaAssignment(partition_index=partition, broker_ids=list(brokers))
            for partition, brokers in topic.assignments
        ],
        configs=[CreatableTopicConfig(name=name, value=value) for name, value in topic.configs.items()],
    )
