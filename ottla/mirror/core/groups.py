"""What a group's offsets are on the target, and whether they may be written there.

Translation is exact (`OffsetMap`). A group may be moved only while nobody reads with it on the target, and only forward
unless it is told otherwise: who has failed over has his place there, which an old offset of the source must not undo.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ottla.client.coordination import OffsetAndMetadata
from ottla.client.types import TopicPartition
from ottla.mirror.core.mm2_records import Checkpoint
from ottla.mirror.core.offset_map import OffsetMap

INACTIVE_STATES: Final = frozenset({"EMPTY", "DEAD", "UNKNOWN", ""})
"""States of groups (any case) that have no members. A group that the target does not know has none of them."""


class Translated(NamedTuple):
    """An offset on both sides. `not_copied`: source offsets below the committed one that have no decision yet."""

    upstream_offset: int
    downstream_offset: int
    not_copied: int


class Copy(NamedTuple):
    """A copied partition: its name on the target, and the map of its offsets.

    `back` is the map of the flow that copies from this copy into the original, where the two share their names: then
    either of them holds records of its own beside those of the other.
    """

    partition: TopicPartition
    offsets: OffsetMap
    back: OffsetMap | None = None


def translate(copy: Copy, committed: int) -> Translated | None:
    """A committed offset of the original, in the copy; as far as was copied, when it lies beyond. None: not known yet.

    With a flow back, the group may have read less of what was produced in the target than of what was copied there.
    So it goes on before the first record of either kind that it has not read: it misses none, and gets some again
    where it was further with the other kind. When all is copied and read, it gets none again.
    """
    position = copy.offsets.position
    if position is None:
        return None
    upstream = min(committed, position)
    downstream = copy.offsets.to_target(upstream)
    if copy.back is not None:
        next_of_target = copy.back.to_source(committed)
        if next_of_target is None:
            return None
        next_copy = copy.offsets.next_copy(upstream)
        downstream = next_of_target if next_copy is None else min(next_copy, next_of_target)
    return None if downstream is None else Translated(upstream, downstream, committed - upstream)


def translate_back(copy: Copy, committed: int) -> int | None:
    """A committed offset of the copy, in the original, likewise. None: nothing is copied yet."""
    next_original = copy.offsets.to_source(committed)
    next_copy_back = None if copy.back is None else copy.back.next_copy(committed)
    if next_original is None or next_copy_back is None:
        return next_original
    return min(next_original, next_copy_back)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """What to do for one group; partitions under their names on the target."""

    checkpoints: list[Checkpoint] = field(default_factory=list)
    commits: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)
    left_alone: dict[TopicPartition, str] = field(default_factory=dict)  # and why


def is_active(state: str | None) -> bool:
    """Whether a group in this state has members; None: the cluster does not know the group."""
    return state is not None and state.upper().replace(" ", "") not in INACTIVE_STATES


def plan_group(
    group_id: str,
    committed: Mapping[TopicPartition, OffsetAndMetadata],
    copy_of: Callable[[TopicPartition], Copy | None],
    *,
    target_state: str | None,
    target_offsets: Mapping[TopicPartition, int],
    may_go_back: bool = False,
) -> GroupPlan:
    """Checkpoints and commits for a group, from what it has committed on the source.

    `copy_of` tells the copy of a source partition; `target_offsets` what the group has committed on the target.
    """
    plan = GroupPlan()
    active = is_active(target_state)
    for partition, upstream in sorted(committed.items()):
        found = copy_of(partition)
        if found is None:
            continue
        copy = found.partition
        translated = translate(found, upstream.offset)
        if translated is None:
            plan.left_alone[copy] = "nothing of it is copied yet"
            continue
        plan.checkpoints.append(
            Checkpoint(group_id, copy, translated.upstream_offset, translated.downstream_offset, upstream.metadata)
        )
        present = target_offsets.get(copy)
        if active:
            plan.left_alone[copy] = f"the group is active on the target ({target_state})"
        elif present is not None and present > translated.downstream_offset and not may_go_back:
            plan.left_alone[copy] = f"the group is further on the target already ({present})"
        elif present != translated.downstream_offset:
            plan.commits[copy] = OffsetAndMetadata(translated.downstream_offset, upstream.metadata)
    return plan


class Changes:
    """Tells which checkpoints say something new: only these are written."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, TopicPartition], Checkpoint] = {}

    def new_ones(self, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
        """Those that differ from the last of their group and partition."""
        return [one for one in checkpoints if self._last.get((one.group_id, one.partition)) != one]

    def written(self, checkpoints: list[Checkpoint]) -> None:
        """They are in the topic now."""
        self._last.update({(one.group_id, one.partition): one for one in checkpoints})
