"""What operators and mirrors of an Ottla cluster ask over gRPC, and cannot ask over the Kafka protocol."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.mirrors import MirrorLog, MirrorPartition, MirrorTopic
from ottla.client.operations import QuorumDescription, Reassignment, ReplicaProgress
from ottla.client.types import TopicPartition
from ottla.core.types import Buffer


class KafkaOperations:
    """Implements `operations.Operations` by refusing: every call raises ClientError (UNSUPPORTED_VERSION)."""

    async def describe_quorum(self) -> QuorumDescription:
        _refuse("describing the quorum")

    async def add_voter(self, node_id: int, *, timeout_ms: int) -> None:
        _refuse("adding a voter")

    async def remove_voter(self, node_id: int) -> None:
        _refuse("removing a voter")

    async def transfer_leadership(self, leader_id: int, node_id: int) -> None:
        _refuse("handing over the quorum")

    async def unregister_node(self, node_id: int) -> None:
        _refuse("unregistering a node")

    async def replace_node(self, leader_id: int, node_id: int, *, accept_loss: bool) -> list[TopicPartition]:
        _refuse("replacing a node")

    async def alter_reassignments(
        self, replicas: Mapping[TopicPartition, Sequence[int] | None], *, keep_replication_factor: bool
    ) -> dict[TopicPartition, ClientError | None]:
        _refuse("moving replicas")

    async def list_reassignments(self) -> dict[TopicPartition, Reassignment]:
        _refuse("listing moves of replicas")

    async def elect_leaders(
        self, partitions: Sequence[TopicPartition] | None, *, unclean: bool
    ) -> dict[TopicPartition, ClientError | None]:
        _refuse("electing leaders")

    async def describe_replicas(self, node_id: int, topics: Sequence[str]) -> dict[TopicPartition, ReplicaProgress]:
        _refuse("describing replicas")


class KafkaMirrors:
    """Implements `mirrors.MirrorCalls` by refusing, likewise."""

    async def describe(self, topics: Sequence[str]) -> dict[str, MirrorTopic]:
        _refuse("asking what is a mirror topic")

    async def log_of(self, node_id: int, mirror: MirrorPartition) -> MirrorLog:
        _refuse("asking for a mirror's log")

    async def append(
        self,
        node_id: int,
        mirror: MirrorPartition,
        batches: Buffer,
        *,
        expected_end_offset: int,
        log_start_offset: int,
        begin_at: int | None,
        timeout_ms: int,
    ) -> MirrorLog:
        _refuse("writing a mirror topic")

    async def end_mirror(
        self, node_id: int, mirror: MirrorPartition, *, abort_transactions: bool, timeout_ms: int
    ) -> MirrorLog:
        _refuse("promoting a mirror topic")


def _refuse(what: str) -> NoReturn:
    message = f"{what} is Ottla's own matter: use protocol=\"grpc\" and the node's gRPC port"
    raise ClientError(ErrorCode.UNSUPPORTED_VERSION, message)
