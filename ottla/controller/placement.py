"""Which brokers hold the replicas of new partitions: spread over racks, leaders in turn (KIP-36).

Brokers stand in a ring in which racks alternate. Each partition's first replica is the next broker of the ring; the
others follow after it, from the racks that have the fewest replicas of the partition so far. With every round of the
ring they begin one further on, so that the leaderships of a broker that fails fall to all others alike.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest

from ottla.controller.image import MetadataImage
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId

Ring = list[tuple[NodeId, str | None]]


def place(image: MetadataImage, start: int, count: int, replication_factor: int) -> list[tuple[NodeId, ...]]:
    """Replicas for `count` partitions, which take the turns from `start` on.

    Brokers that are not active get replicas only when there are not enough others, and then after those: a topic can be
    created while a broker restarts, and its replica there joins later.

    Raises ApiError(INVALID_REPLICATION_FACTOR) when there are fewer brokers than replicas, or none is active.
    """
    active = _ring(image, active=True)
    away = _ring(image, active=False)
    if not active or replication_factor > len(active) + len(away):
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to place {replication_factor} replicas: {len(active) + len(away)} broker(s) are registered, "
            f"{len(active)} of them live.",
        )

    @cache
    def replicas(first: int, shift: int) -> tuple[NodeId, ...]:
        followers = active[first + 1 :] + active[:first]
        if followers:
            shift %= len(followers)
            followers = followers[shift:] + followers[:shift]
        return _spread(active[first], followers, away, replication_factor)

    turns = len(active)
    shifts = max(1, turns - 1)
    return [replicas(turn % turns, turn // turns % shifts) for turn in range(start, start + count)]


def _ring(image: MetadataImage, *, active: bool) -> Ring:
    """Brokers by id within their racks, one of each rack in turn."""
    racks: dict[str | None, Ring] = {}
    for broker_id in sorted(image.brokers):
        broker = image.brokers[broker_id]
        if broker.is_active is active:
            racks.setdefault(broker.rack, []).append((broker.id, broker.rack))
    ordered = [racks[rack] for rack in sorted(racks, key=lambda rack: rack or "")]
    return [one for turn in zip_longest(*ordered) for one in turn if one is not None]


def _spread(leader: tuple[NodeId, str | None], followers: Ring, away: Ring, count: int) -> tuple[NodeId, ...]:
    chosen = [leader[0]]
    used = Counter([leader[1]])
    for ring in (list(followers), list(away)):
        while ring and len(chosen) < count:
            node, rack = min(ring, key=lambda one: used[one[1]])  # the first of them, in the ring's order
            ring.remove((node, rack))
            chosen.append(node)
            used[rack] += 1
    return tuple(chosen)


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
