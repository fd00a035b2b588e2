"""Partitions over members, evenly and with little movement, whoever subscribes to what.

It is semi-matching of partitions with members: a load can be made more even as long as there is a chain in which each
member can give a partition to the next, from one member to another that has at least two less. Where no such chain is
left the spread is the most even one (Harvey et al., "Semi-Matchings for Bipartite Graphs and Load Balancing", 2003).
With equal subscriptions every chain is a single step.
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from ottla.coordinators.groups.consumer.assignment import Assignment
from ottla.core.types import Uuid


def spread(
    topics_of: Mapping[str, frozenset[Uuid]],
    partition_counts: Mapping[Uuid, int],
    owners: Mapping[tuple[Uuid, int], str],
) -> dict[str, Assignment]:
    """Each partition of a topic that somebody subscribes to, to one of its subscribers.

    `owners`: who has a partition now; only subscribers of its topic. They keep it as far as the balance allows.
    """
    state = _Spread(topics_of, partition_counts, owners)
    state.hand_out()
    state.balance()
    return {
        member_id: {topic_id: frozenset(partitions) for topic_id, partitions in held.items() if partitions}
        for member_id, held in state.held.items()
    }


class _Spread:
    def __init__(
        self,
        topics_of: Mapping[str, frozenset[Uuid]],
        partition_counts: Mapping[Uuid, int],
        owners: Mapping[tuple[Uuid, int], str],
    ) -> None:
        self.topics_of = topics_of
        self.held: dict[str, dict[Uuid, set[int]]] = {member_id: {} for member_id in sorted(topics_of)}
        self.loads = dict.fromkeys(self.held, 0)
        self.subscribers: dict[Uuid, list[str]] = {}
        for member_id in self.held:
            for topic_id in topics_of[member_id]:
                if topic_id in partition_counts:
                    self.subscribers.setdefault(topic_id, []).append(member_id)
        self.unowned: list[tuple[Uuid, int]] = []
        for topic_id in sorted(self.subscribers):
            for partition in range(partition_counts[topic_id]):
                owner = owners.get((topic_id, partition))
                if owner is None:
                    self.unowned.append((topic_id, partition))
                else:
                    self._give(topic_id, partition, owner)

    def _give(self, topic_id: Uuid, partition: int, member_id: str) -> None:
        self.held[member_id].setdefault(topic_id, set()).add(partition)
        self.loads[member_id] += 1

    def hand_out(self) -> None:
        """What nobody has: each partition to the subscriber that has least, topics with few subscribers first."""
        self.unowned.sort(key=lambda one: (len(self.subscribers[one[0]]), one[0], one[1]))
        heap: list[tuple[int, str]] = []
        members: frozenset[str] = frozenset()
        heap_of: Uuid | None = None
        for topic_id, partition in self.unowned:
            if topic_id != heap_of:
                heap_of = topic_id
                subscribers = frozenset(self.subscribers[topic_id])
                if subscribers != members:
                    members = subscribers
                    heap = [(self.loads[member_id], member_id) for member_id in members]
                    heapify(heap)
            load, member_id = heappop(heap)
            self._give(topic_id, partition, member_id)
            heappush(heap, (load + 1, member_id))

    def balance(self) -> None:
        """Move partitions along chains until no chain makes it more even."""
        settled: set[str] = set()  # members from which no chain leads to one that has two less
        while True:
            open_ones = (one for one in self.held if one not in settled)
            source = max(open_ones, key=lambda one: self.loads[one], default=None)
            if source is None or self.loads[source] <= min(self.loads.values()) + 1:
                return
            chain = self._chain(source)
            if chain is None:
                # Later chains begin at members with no more, so none of them touches what this one can reach.
                settled.add(source)
                continue
            for giver, topic_id, taker in chain:
                partition = self.held[giver][topic_id].pop()
                self.loads[giver] -= 1
                self._give(topic_id, partition, taker)

    def _chain(self, source: str) -> list[tuple[str, Uuid, str]] | None:
        """The shortest way to hand a partition on to somebody with at least two less; the last step first.

        Breadth first, and each topic only once: whoever can take a partition of it was found then.
        """
        most = self.loads[source] - 2
        if most < 0:
            return None
        came: dict[str, tuple[str, Uuid]] = {source: ("", Uuid(b""))}
        topics_seen: set[Uuid] = set()
        ring = [source]
        while ring:
            following: list[str] = []
            for giver in ring:
                # From the topic of which it has most, so that members share topics and not only numbers.
                for topic_id, partitions in sorted(self.held[giver].items(), key=lambda one: -len(one[1])):
                    if not partitions or topic_id in topics_seen:
                        continue
                    topics_seen.add(topic_id)
                    for taker in self.subscribers[topic_id]:
                        if taker not in came:
                            came[taker] = giver, topic_id
                            following.append(taker)
            # Of those that are equally near, the one with least.
            best = min(following, key=lambda one: self.loads[one], default=None)
            if best is not None and self.loads[best] <= most:
                return self._steps(came, source, best)
            ring = following
        return None

    def _steps(self, came: Mapping[str, tuple[str, Uuid]], source: str, end: str) -> list[tuple[str, Uuid, str]]:
        steps = []
        taker = end
        while taker != source:
            giver, topic_id = came[taker]
            steps.append((giver, topic_id, taker))
            taker = giver
        return steps
