"""The part of the admin client that operators of a cluster of several nodes use."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from ottla.client.errors import ClientError, ErrorCode, PartialFailure
from ottla.client.operations import Operations, QuorumDescription, Reassignment, ReplicaProgress
from ottla.client.transport import Transport
from ottla.client.types import TopicPartition

T = TypeVar("T")


class AdminOperations(ABC):
    """What `Admin` inherits."""

    @abstractmethod
    async def _retrying(self, call: Callable[[Transport], Awaitable[T]]) -> T: ...

    @abstractmethod
    def _usable(self) -> Transport: ...

    def _operations(self) -> Operations:
        return self._usable().operations

    async def describe_quorum(self) -> QuorumDescription:
        """Who votes on the cluster's metadata, and how far each one is."""
        return await self._retrying(lambda transport: transport.operations.describe_quorum())

    async def add_voter(self, node_id: int, *, timeout_ms: int = 15_000) -> None:
        """Bring a running node up to date, and let it vote."""
        await self._operations().add_voter(node_id, timeout_ms=timeout_ms)

    async def remove_voter(self, node_id: int) -> None:
        """The node votes no more; it goes on following, and being a broker."""
        await self._operations().remove_voter(node_id)

    async def transfer_leadership(self, node_id: int) -> None:
        """Have that voter lead the quorum, and be the active controller."""
        await self._operations().transfer_leadership(await self._leader(), node_id)

    async def unregister_node(self, node_id: int) -> None:
        """The node is gone for good. One that runs registers again at once."""
        await self._operations().unregister_node(node_id)

    async def replace_node(self, node_id: int, *, accept_loss: bool = False) -> list[TopicPartition]:
        """The node's disk is lost: let it come back with an empty directory. The partitions that are lost by it."""
        return await self._operations().replace_node(await self._leader(), node_id, accept_loss=accept_loss)

    async def alter_reassignments(
        self, replicas: Mapping[TopicPartition, Sequence[int] | None], *, keep_replication_factor: bool = False
    ) -> None:
        """Move the replicas of partitions to these nodes, the preferred leader first; None cancels a move.

        Returns when the moves have begun: see `list_reassignments`.
        """
        _raise_failures(
            await self._operations().alter_reassignments(replicas, keep_replication_factor=keep_replication_factor)
        )

    async def list_reassignments(self) -> dict[TopicPartition, Reassignment]:
        """What is being moved."""
        return await self._retrying(lambda transport: transport.operations.list_reassignments())

    async def elect_leaders(
        self, partitions: Iterable[TopicPartition] | None = None, *, unclean: bool = False
    ) -> list[TopicPartition]:
        """Have the preferred replicas lead, of these partitions or of all; those whose leader changed.

        `unclean`: have any replica lead that is there, where there is no leader; records may be lost by it.
        """
        wanted = None if partitions is None else list(partitions)
        outcomes = await self._operations().elect_leaders(wanted, unclean=unclean)
        outcomes = {
            partition: error
            for partition, error in outcomes.items()
            if error is None or error.code is not ErrorCode.ELECTION_NOT_NEEDED
        }
        _raise_failures(outcomes)
        return list(outcomes)

    async def describe_replicas(
        self, node_ids: Iterable[int], topics: Sequence[str] = ()
    ) -> dict[TopicPartition, ReplicaProgress]:
        """How far the replicas are of the partitions that these nodes lead, of some topics or of all."""
        found: dict[TopicPartition, ReplicaProgress] = {}
        for node_id in node_ids:
            found |= await self._operations().describe_replicas(node_id, topics)
        return found

    async def _leader(self) -> int:
        cluster = await self._retrying(lambda transport: transport.describe_cluster())
        if cluster.controller_id < 0:
            raise ClientError(ErrorCode.NOT_CONTROLLER, "the cluster has no active controller now")
        return cluster.controller_id


def _raise_failures(outcomes: Mapping[TopicPartition, ClientError | None]) -> None:
    errors = {partition: error for partition, error in outcomes.items() if error is not None}
    if errors:
        raise PartialFailure(errors, {one: None for one in outcomes if one not in errors})
