"""Leaders' wishes for other in-sync replicas, on their way to the active controller (AlterPartition, KIP-497, KIP-903).

All partitions of a node that want something at the same time travel in one request. What became of each is told to
`ReplicaManager.answered`; a success is told by the metadata.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ottla.broker.context import RequestContext
from ottla.broker.control.access import ControllerAccess
from ottla.controller.image import LeaderRecovery
from ottla.controller.requests import AlteredPartition, IsrChange
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId, Uuid
from ottla.partitions.replication.types import AlterPartition
from ottla.protocol.messages import alter_partition_request as asked
from ottla.protocol.messages import alter_partition_response as answered

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

Answered = Callable[[AlterPartition, ErrorCode], None]


class IsrProposals:
    """One node's. `broker_epoch`: tells the one under which it is registered now."""

    def __init__(
        self, node_id: NodeId, access: ControllerAccess, broker_epoch: Callable[[], int], tell: Answered
    ) -> None:
        self._node_id, self._access, self._broker_epoch, self._tell = node_id, access, broker_epoch, tell
        self._tasks: set[asyncio.Task[None]] = set()

    def propose(self, proposals: Sequence[AlterPartition]) -> None:
        """Ask for all of them; see `ReplicaManager`."""
        task = asyncio.get_running_loop().create_task(self._propose(proposals))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Wait for no answer any more."""
        for task in self._tasks:
            task.cancel()

    async def _propose(self, proposals: Sequence[AlterPartition]) -> None:
        changes = [
            IsrChange(
                topic_id=one.topic_id,
                partition=one.index,
                leader_epoch=one.change.leader_epoch,
                partition_epoch=one.change.partition_epoch,
                isr=one.change.isr,
            )
            for one in proposals
        ]
        try:
            outcomes = await self._access.alter_partitions(self._broker_epoch(), changes)
        except ApiError:  # whether the controller has carried it out, nobody can say
            outcomes = []
        errors = {(one.topic_id, one.partition): one.error for one in outcomes}
        for proposal in proposals:
            self._tell(proposal, errors.get((proposal.topic_id, proposal.index), ErrorCode.REQUEST_TIMED_OUT))


def to_message(broker_id: NodeId, broker_epoch: int, changes: Sequence[IsrChange]) -> asked.AlterPartitionRequest:
    """The request that carries these."""
    topics: dict[Uuid, list[IsrChange]] = {}
    for change in changes:
        topics.setdefault(change.topic_id, []).append(change)
    return asked.AlterPartitionRequest(
        broker_id=broker_id,
        broker_epoch=broker_epoch,
        topics=[
            asked.TopicData(
                topic_id=topic_id,
                partitions=[
                    asked.PartitionData(
                        partition_index=one.partition,
                        leader_epoch=one.leader_epoch,
                        new_isr_with_epochs=[
                            asked.BrokerState(broker_id=broker, broker_epoch=epoch) for broker, epoch in one.isr
                        ],
                        leader_recovery_state=one.recovery,
                        partition_epoch=one.partition_epoch,
                    )
                    for one in of_topic
                ],
            )
            for topic_id, of_topic in topics.items()
        ],
    )


def from_message(response: answered.AlterPartitionResponse) -> list[AlteredPartition]:
    """What became of each. Raises ApiError when the request as a whole was refused."""
    if response.error_code:
        raise ApiError(ErrorCode(response.error_code))
    return [
        AlteredPartition(topic_id=topic.topic_id, partition=one.partition_index, error=ErrorCode(one.error_code))
        for topic in response.topics
        for one in topic.partitions
    ]


async def alter_partition(
    broker: "Broker", request: asked.AlterPartitionRequest, context: RequestContext
) -> answered.AlterPartitionResponse:
    """The handler on the active controller's node."""
    changes = [
        IsrChange(
            topic_id=topic.topic_id,
            partition=one.partition_index,
            leader_epoch=one.leader_epoch,
            partition_epoch=one.partition_epoch,
            isr=[(NodeId(state.broker_id), state.broker_epoch) for state in one.new_isr_with_epochs],
            recovery=LeaderRecovery(one.leader_recovery_state),
        )
        for topic in request.topics
        for one in topic.partitions
    ]
    try:
        outcomes = await broker.controller.local.alter_partitions(
            NodeId(request.broker_id), request.broker_epoch, changes
        )
    except ApiError as error:
        return answered.AlterPartitionResponse(error_code=error.code, topics=[])
    topics: dict[Uuid, list[Any]] = {}
    for outcome in outcomes:
        topics.setdefault(outcome.topic_id, []).append(
            answered.PartitionData(
                partition_index=outcome.partition,
                error_code=outcome.error,
                leader_id=outcome.leader,
                leader_epoch=outcome.leader_epoch,
                isr=list(outcome.isr),
                leader_recovery_state=outcome.recovery,
                partition_epoch=outcome.partition_epoch,
            )
        )
    return answered.AlterPartitionResponse(
        topics=[answered.TopicData(topic_id=topic_id, partitions=of_topic) for topic_id, of_topic in topics.items()]
    )
