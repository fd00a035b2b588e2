"""Two owners: members of a group that have the same partition in the same generation."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ottla.testing.history.facts import Facts
from ottla.testing.history.operations import Assigned, Outcome, Revoked, TopicPartition
from ottla.testing.history.verdict import Anomaly, Kind


@dataclass(slots=True)
class _Claim:
    """A member has a partition in a generation."""

    process: str
    assigned: Assigned
    until_ns: int | None = None  # gave it back within this generation


@dataclass(slots=True)
class _Member:
    """What a process has, and who gave it."""

    owned: dict[TopicPartition, Assigned] = field(default_factory=dict)
    claims: dict[tuple[int, TopicPartition], _Claim] = field(default_factory=dict)


def two_owners(facts: Facts) -> Iterator[Anomaly]:
    """Only where members were told the generation: one that was fenced keeps its partitions until it learns of it."""
    members: defaultdict[tuple[str, str], _Member] = defaultdict(_Member)
    claims: defaultdict[tuple[str, int, TopicPartition], list[_Claim]] = defaultdict(list)
    changes: list[Assigned | Revoked] = [*facts.history.assigned, *facts.history.revoked]
    changes = [one for one in changes if one.group and one.outcome is Outcome.OK]
    for change in sorted(changes, key=lambda one: one.completed_ns or 0):
        member = members[change.group, change.process]
        if isinstance(change, Revoked):
            for partition in change.partitions:
                member.owned.pop(partition, None)
                for key in [key for key in member.claims if key[1] == partition]:
                    member.claims.pop(key).until_ns = change.completed_ns
            continue
        member.owned.update(dict.fromkeys(change.partitions, change))
        if change.generation < 0:
            continue
        # What it had and keeps is its own in the new generation, too.
        for partition, assigned in member.owned.items():
            key = change.generation, partition
            if key not in member.claims:
                member.claims[key] = claim = _Claim(change.process, assigned if assigned is change else change)
                claims[change.group, *key].append(claim)
    for (group, generation, partition), of in claims.items():
        first = of[0]
        for claim in of[1:]:
            if claim.process == first.process or _before(first, claim):
                first = claim
                continue
            yield Anomaly(
                Kind.TWO_OWNERS,
                f"{partition} belongs in generation {generation} of {group} to {first.process} and to {claim.process}",
                (first.assigned, claim.assigned),
            )


def _before(first: _Claim, claim: _Claim) -> bool:
    """The one had given it back before the other was given it."""
    return first.until_ns is not None and first.until_ns <= (claim.assigned.completed_ns or 0)
