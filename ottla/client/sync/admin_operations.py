"""The part of the blocking admin client that operators of a cluster of several nodes use."""

from collections.abc import Iterable, Mapping, Sequence

from ottla.client import admin as asyncio_admin
from ottla.client.operations import QuorumDescription, Reassignment, ReplicaProgress
from ottla.client.sync.loop_thread import LoopThread
from ottla.client.types import TopicPartition


class AdminOperations:
    """What `Admin` inherits; see `ottla.client.admin_operations`."""

    _admin: asyncio_admin.Admin
    _thread: LoopThread

    def describe_quorum(self) -> QuorumDescription:
        """Who votes on the cluster's metadata, and how far each one is."""
        return self._thread.run(self._admin.describe_quorum())

    def add_voter(self, node_id: int, *, timeout_ms: int = 15_000) -> None:
        """Bring a running node up to date, and let it vote."""
        self._thread.run(self._admin.add_voter(node_id, timeout_ms=timeout_ms))

    def remove_voter(self, node_id: int) -> None:
        """The node votes no more."""
        self._thread.run(self._admin.remove_voter(node_id))

    def transfer_leadership(self, node_id: int) -> None:
        """Have that voter lead the quorum."""
        self._thread.run(self._admin.transfer_leadership(node_id))

    def unregister_node(self, node_id: int) -> None:
        """The node is gone for good."""
        self._thread.run(self._admin.unregister_node(node_id))

    def replace_node(self, node_id: int, *, accept_loss: bool = False) -> list[TopicPartition]:
        """Let the node come back with an empty directory; the partitions that are lost by it."""
        return self._thread.run(self._admin.replace_node(node_id, accept_loss=accept_loss))

    def alter_reassignments(
        self, replicas: Mapping[TopicPartition, Sequence[int] | None], *, keep_replication_factor: bool = False
    ) -> None:
        """Begin to move the replicas of partitions to these nodes, or with None cancel it."""
        self._thread.run(self._admin.alter_reassignments(replicas, keep_replication_factor=keep_replication_factor))

    def list_reassignments(self) -> dict[TopicPartition, Reassignment]:
        """What is being moved."""
        return self._thread.run(self._admin.list_reassignments())

    def elect_leaders(
        self, partitions: Iterable[TopicPartition] | None = None, *, unclean: bool = False
    ) -> list[TopicPartition]:
        """Have the preferred replicas lead; those whose leader changed."""
        return self._thread.run(self._admin.elect_leaders(partitions, unclean=unclean))

    def describe_replicas(
        self, node_ids: Iterable[int], topics: Sequence[str] = ()
    ) -> dict[TopicPartition, ReplicaProgress]:
        """How far the replicas are of the partitions that these nodes lead."""
        return self._thread.run(self._admin.describe_replicas(node_ids, topics))
