"""The next step of one member on its way to its target (KIP-848, "Member Reconciliation").

              target differs, and it          it has said that it
              owns what it must give up       gave them up
    STABLE ───────────────────────→ UNREVOKED ─────────┐
      ↑  └──────────────────────────────────────────┐  │
      │       target differs, nothing to give up    ↓  ↓
      └──────────── all is free ──────────── takes what is free
                                                    │  ↑
                            something is not free   ↓  │ a heartbeat
                                                UNRELEASED

What is free is taken at once, in every step. A member enters the target's epoch when it has given up all that the
target does not have.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from ottla.coordinators.groups.consumer.assignment import Assignment, OwnedPartitions, TopicPartitions
from ottla.coordinators.groups.consumer.member import NOTHING, ConsumerMember, MemberState
from ottla.core.types import Uuid

Free = Callable[[Uuid, int], bool]
"""Whether nobody else owns a partition of this topic."""

_NO_PARTITIONS: Final[frozenset[int]] = frozenset()


def reconcile(
    member: ConsumerMember,
    *,
    target_epoch: int,
    target: Assignment,
    is_free: Free,
    claimed: Iterable[TopicPartitions] | None,
) -> ConsumerMember:
    """The member after this heartbeat, in which it said that it owns `claimed` (None: it did not say)."""
    owned = None if claimed is None else list(claimed)
    match member.state:
        case MemberState.STABLE:
            if member.epoch == target_epoch:
                return member
            epoch = member.epoch
        case MemberState.UNREVOKED_PARTITIONS:
            if _still_owns(owned, member.pending_revocation):
                return member
            epoch = member.epoch + 1  # at least: it is out of the epoch whose partitions it gave up
        case MemberState.UNRELEASED_PARTITIONS:
            epoch = member.epoch
        case MemberState.UNKNOWN:
            epoch = target_epoch  # it owns nothing: see `check_epoch`
    return _step(member, epoch, target_epoch, target, is_free, owned)


def _step(
    member: ConsumerMember,
    epoch: int,
    target_epoch: int,
    target: Assignment,
    is_free: Free,
    owned: list[TopicPartitions] | None,
) -> ConsumerMember:
    assigned: dict[Uuid, dict[int, int]] = {}
    given_up: dict[Uuid, dict[int, int]] = {}
    for topic_id, partitions in member.assigned.items():
        wanted = target.get(topic_id, _NO_PARTITIONS)
        for partition, since in partitions.items():
            side = assigned if partition in wanted else given_up
            side.setdefault(topic_id, {})[partition] = since
    if given_up and _still_owns(owned, given_up):
        return _moved(member, epoch, MemberState.UNREVOKED_PARTITIONS, assigned, given_up)
    waits = False
    for topic_id, wanted in target.items():
        kept = member.assigned.get(topic_id, {})
        for partition in wanted:
            if partition in kept:
                continue
            if is_free(topic_id, partition):
                assigned.setdefault(topic_id, {})[partition] = target_epoch
            else:
                waits = True
    state = MemberState.UNRELEASED_PARTITIONS if waits else MemberState.STABLE
    return _moved(member, target_epoch, state, assigned, NOTHING)


def _still_owns(owned: list[TopicPartitions] | None, given_up: OwnedPartitions) -> bool:
    """A member that does not say what it owns owns what it did."""
    if owned is None:
        return True
    return any(partition in given_up.get(one.topic_id, {}) for one in owned for partition in one.partitions)


def _moved(
    member: ConsumerMember, epoch: int, state: MemberState, assigned: OwnedPartitions, pending: OwnedPartitions
) -> ConsumerMember:
    # The previous epoch is the last different one: a member that missed an answer comes with it.
    previous = member.previous_epoch if epoch == member.epoch else member.epoch
    return replace(
        member,
        epoch=epoch,
        previous_epoch=previous,
        state=state,
        assigned=assigned,
        pending_revocation=pending,
    )
