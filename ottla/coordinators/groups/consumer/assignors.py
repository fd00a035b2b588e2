"""Who shall have which partitions: the server-side assignors of KIP-848, `uniform` and `range`.

An assignor is a function of members and partition counts, and gives each partition of a subscribed topic to exactly
one of the members that subscribe to it. Racks are not looked at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ottla.coordinators.groups.consumer.assignment import Assignment
from ottla.coordinators.groups.consumer.spread import spread
from ottla.core.types import Uuid

Assignor = Callable[[Mapping[str, "Subscriber"], Mapping[Uuid, int]], dict[str, Assignment]]
"""Of members, and partition counts of the topics that exist: a target for each member."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A member as far as it matters here."""

    topics: frozenset[Uuid]
    """Those of its topics that exist."""
    target: Assignment
    """What it was to have so far."""
    instance_id: str | None = None


def uniform(members: Mapping[str, Subscriber], partition_counts: Mapping[Uuid, int]) -> dict[str, Assignment]:
    """As even as the subscriptions allow, and with as few partitions as possible that change their owner."""
    loads = {member_id: member.topics for member_id, member in members.items()}
    owners: dict[tuple[Uuid, int], str] = {}
    for member_id, member in members.items():
        for topic_id, partitions in member.target.items():
            if topic_id in member.topics:
                count = partition_counts.get(topic_id, 0)
                owners.update(dict.fromkeys(((topic_id, one) for one in partitions if one < count), member_id))
    return spread(loads, partition_counts, owners)


def range_(members: Mapping[str, Subscriber], partition_counts: Mapping[Uuid, int]) -> dict[str, Assignment]:
    """Of each topic a stretch to each of its members, so that members of the same topics get the same numbers of all.

    Members stand in the order of their instance ids, then of their member ids: a static member that comes back under a
    new member id keeps its stretch.
    """
    in_order = sorted(members.items(), key=lambda one: (one[1].instance_id is None, one[1].instance_id or "", one[0]))
    targets: dict[str, dict[Uuid, frozenset[int]]] = {member_id: {} for member_id in members}
    for topic_id, count in partition_counts.items():
        subscribers = [member_id for member_id, member in in_order if topic_id in member.topics]
        if not subscribers:
            continue
        share, larger = divmod(count, len(subscribers))
        start = 0
        for position, member_id in enumerate(subscribers):
            end = start + share + (position < larger)
            if end > start:
                targets[member_id][topic_id] = frozenset(range(start, end))
            start = end
    return dict(targets)


ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": uniform, "range": range_}
"""By the names that clients ask for."""
