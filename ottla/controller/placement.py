"""Which brokers hold the replicas of new partitions."""

from collections.abc import Sequence

from ottla.controller.image import MetadataImage
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId


def usable_brokers(image: MetadataImage) -> list[NodeId]:
    """Registered brokers that are not fenced, by id."""
    return sorted(broker.id for broker in image.brokers.values() if not broker.fenced)


def place(image: MetadataImage, first: int, count: int, replication_factor: int) -> list[tuple[NodeId, ...]]:
    """Replicas for `count` partitions from index `first` on: leaders in turn, followers on the brokers after them.

    Raises ApiError(INVALID_REPLICATION_FACTOR) when there are fewer brokers than replicas.
    """
    brokers = usable_brokers(image)
    if replication_factor > len(brokers):
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to place {replication_factor} replicas: only {len(brokers)} broker(s) are registered and live.",
        )
    rings = [
        tuple(brokers[(start + step) % len(brokers)] for step in range(replication_factor))
        for start in range(len(brokers))
    ]
    return [rings[(first + position) % len(brokers)] for position in range(count)]


def check_assignment(image: MetadataImage, partition: int, replicas: Sequence[int]) -> tuple[NodeId, ...]:
    """A client's own choice of replicas. Raises ApiError(INVALID_REPLICA_ASSIGNMENT)."""
    problem = None
    if not replicas:
        problem = "the list of replicas is empty"
    elif len(set(replicas)) != len(replicas):
        problem = f"a broker stands twice among the replicas {list(replicas)}"
    elif unknown := [broker for broker in replicas if broker not in image.brokers]:
        problem = f"broker {unknown[0]} is not registered"
    if problem:
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"Partition {partition}: {problem}.")
    return tuple(map(NodeId, replicas))
