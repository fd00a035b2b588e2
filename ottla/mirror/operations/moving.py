"""Failover and failback: what was lost, and groups moved to the other side with exact offsets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ottla.client.coordination import OffsetAndMetadata
from ottla.client.errors import ClientError
from ottla.client.transport import LATEST_TIMESTAMP
from ottla.client.types import TopicPartition
from ottla.core.errors import DecodeError
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.groups import is_active, translate_back
from ottla.mirror.core.mm2_records import Checkpoint
from ottla.mirror.engine.groups import (
    commit_offsets,
    committed_offsets,
    group_ids,
    group_state,
    known_copy,
    plan_for,
)
from ottla.mirror.engine.side import Side
from ottla.mirror.operations.observing import Observer
from ottla.mirror.operations.verification import records_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What of one partition is not on the target. `records` counts offsets; None: the source cannot be asked."""

    source: TopicPartition
    position: int
    records: int | None
    last_copied_ms: int | None  # the time of the youngest copy, where there is one


@dataclass(slots=True)
class Moves:
    """What is to be committed for each group, and what is not and why."""

    commits: dict[str, dict[TopicPartition, OffsetAndMetadata]] = field(default_factory=dict)
    left_alone: dict[str, dict[TopicPartition, str]] = field(default_factory=dict)


async def losses(observer: Observer, flow: FlowConfig) -> list[Loss]:
    """Of each copied partition, heartbeats aside.

    Without the source: when its youngest copy was made, which bounds the loss in time.
    """
    source, target = observer.sides.get(flow.source), observer.sides[flow.target]
    found = []
    for name, remote in observer.names(flow).items():
        if flow.policy.is_heartbeats_topic(name):
            continue  # one more is written every second, and nobody misses it
        for index in range(len(target.topics[remote].partitions)):
            partition = TopicPartition(name, index)
            copy = observer.copy_of(flow, partition)
            if copy is None or copy.map.position is None:
                continue
            behind = None
            if source is not None:
                end = await source.offset_at(partition, LATEST_TIMESTAMP, read_committed=not flow.exact)
                behind = max(0, end - copy.map.position)
            last = None
            if copy.map.target_end:
                start = copy.map.target_end - 1
                async for record in records_of(target, TopicPartition(remote, index), start, copy.map.target_end):
                    last = record.timestamp
            found.append(Loss(source=partition, position=copy.map.position, records=behind, last_copied_ms=last))
    return found


async def failover_moves(observer: Observer, flow: FlowConfig, *, may_go_back: bool) -> Moves:
    """Where groups go on in the target: from what they committed on the source, or else from the last checkpoints."""
    source, target = observer.sides.get(flow.source), observer.sides[flow.target]
    moves = Moves()
    if source is None:
        await _from_checkpoints(flow, target, moves, may_go_back=may_go_back)
        return moves
    names = observer.names(flow)
    ledger = observer.ledger(flow)
    for group_id in await group_ids(source, flow):
        plan = await plan_for(
            flow, source, target, ledger, names, group_id, back=observer.back(flow), may_go_back=may_go_back
        )
        _note(moves, group_id, plan.commits, plan.left_alone)
    return moves


async def failback_moves(observer: Observer, flow: FlowConfig, *, may_go_back: bool) -> Moves:
    """Where groups that read the copies on the target go on in the originals."""
    source, target = observer.sides.get(flow.source), observer.sides[flow.target]
    if source is None:
        raise observer.errors[flow.source]
    originals = {remote: name for name, remote in observer.names(flow).items()}
    moves = Moves()
    for group_id in await group_ids(target, flow):
        committed = await committed_offsets(target, group_id)
        state = await group_state(source, group_id)
        present = {} if state is None else await committed_offsets(source, group_id)
        commits: dict[TopicPartition, OffsetAndMetadata] = {}
        left_alone: dict[TopicPartition, str] = {}
        for copy, offset in sorted(committed.items()):
            name = originals.get(copy.topic)
            if name is None:
                continue
            original = TopicPartition(name, copy.partition)
            found = known_copy(source, target, observer.ledger(flow), observer.back(flow), original, copy.topic)
            upstream = None if found is None else translate_back(found, offset.offset)
            if upstream is None:
                continue
            _decide(original, upstream, offset.metadata, state, present, commits, left_alone, may_go_back=may_go_back)
        _note(moves, group_id, commits, left_alone)
    return moves


async def carry_out(side: Side, moves: Moves) -> dict[str, ClientError]:
    """Commit; errors by group."""
    errors: dict[str, ClientError] = {}
    for group_id, offsets in moves.commits.items():
        try:
            await commit_offsets(side, group_id, offsets)
        except ClientError as error:
            errors[group_id] = error
    return errors


async def _from_checkpoints(flow: FlowConfig, target: Side, moves: Moves, *, may_go_back: bool) -> None:
    topic = flow.policy.checkpoints_topic(flow.source)
    if topic not in target.topics:
        return
    partition = TopicPartition(topic, 0)
    end = await target.offset_at(partition, LATEST_TIMESTAMP, read_committed=True)
    newest: dict[str, dict[TopicPartition, Checkpoint]] = {}
    async for record in records_of(target, partition, 0, end):
        if record.key is None or record.value is None:
            continue
        try:
            one = Checkpoint.decode(record.key, record.value)
        except DecodeError:
            continue  # of a later version
        if flow.groups.takes(one.group_id):
            newest.setdefault(one.group_id, {})[one.partition] = one
    for group_id, checkpoints in sorted(newest.items()):
        state = await group_state(target, group_id)
        present = {} if state is None else await committed_offsets(target, group_id)
        commits: dict[TopicPartition, OffsetAndMetadata] = {}
        left_alone: dict[TopicPartition, str] = {}
        for copy, one in sorted(checkpoints.items()):
            _decide(
                copy, one.downstream_offset, one.metadata, state, present, commits, left_alone, may_go_back=may_go_back
            )
        _note(moves, group_id, commits, left_alone)


def _decide(
    partition: TopicPartition,
    offset: int,
    metadata: str,
    state: str | None,
    present: Mapping[TopicPartition, OffsetAndMetadata],
    commits: dict[TopicPartition, OffsetAndMetadata],
    left_alone: dict[TopicPartition, str],
    *,
    may_go_back: bool,
) -> None:
    before = present.get(partition)
    if is_active(state):
        left_alone[partition] = f"the group is active there ({state}): stop its members"
    elif before is not None and before.offset > offset and not may_go_back:
        left_alone[partition] = f"the group is further there already ({before.offset}, not {offset})"
    elif before is None or before.offset != offset:
        commits[partition] = OffsetAndMetadata(offset, metadata)


def _note(
    moves: Moves,
    group_id: str,
    commits: dict[TopicPartition, OffsetAndMetadata],
    left_alone: dict[TopicPartition, str],
) -> None:
    if commits:
        moves.commits[group_id] = commits
    if left_alone:
        moves.left_alone[group_id] = left_alone
