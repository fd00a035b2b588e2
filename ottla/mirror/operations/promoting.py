"""Promotion of mirror topics, and the way back.

    promote   wait until caught up (planned) ─▶ state = promoting: nobody appends ─▶ end offsets are noted
              ─▶ each leader aborts what is open ─▶ no mirror any more: clients write
    reverse   the old source ends where the promotion happened ─▶ it becomes a mirror of the promoted topic
              it holds more ─▶ it is deleted and made anew as one, if told so

Every step can be repeated, and each rests on what the step before has left in the topics' configs. So a command that
dies half way is run again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.mirrors import MirrorPartition, MirrorTopic
from ottla.client.transport import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ConfigChange
from ottla.client.types import ConfigResource, TopicPartition
from ottla.core.errors import ConfigError
from ottla.core.mirror_topics import (
    MIRROR_PROMOTED,
    MIRROR_SOURCE,
    MIRROR_STATE,
    PROMOTING,
    MirrorSource,
    Promoted,
)
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.exact import came_home, why_parted
from ottla.mirror.engine.exact_topics import mirror_topics
from ottla.mirror.engine.raw_batches import is_compacted, raw_batches_at
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.topics import make_topics, mirror_source
from ottla.mirror.operations.observing import Observer

_LOOK_S: Final = 0.2
_TIMEOUT_MS: Final = 15_000
_PATIENCE_S: Final = 30.0  # with leaders that have not heard of a change yet, or move


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What became of one topic."""

    topic: str
    end_offsets: tuple[int, ...]  # by partition: what was copied ends there
    lost_records: Mapping[int, int] | None  # offsets of the source behind them, by partition; None: it cannot be asked
    aborted_transactions: int
    was_promoted: bool = False  # already, before


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """What became of one topic. `diverged`: records of the old source that the promoted topic does not have."""

    topic: str
    in_place: bool
    diverged: Mapping[int, int] = field(default_factory=dict)
    was_reversed: bool = False  # already, before


class Behind(ClientError):
    """A planned promotion waits for nothing more: the copy is behind."""


class Diverged(ClientError):
    """The old source got records that the promoted topic does not have, which would have to be discarded."""

    def __init__(self, topic: str, diverged: Mapping[int, int]) -> None:
        told = ", ".join(f"{count} in partition {index}" for index, count in sorted(diverged.items()))
        super().__init__(
            ErrorCode.POLICY_VIOLATION,
            f"the old source got records after the promotion: {told}. Copy what you need of them, then add "
            "--discard-diverged: it is deleted and copied anew",
            topic=topic,
        )
        self.diverged = dict(diverged)


async def promotable(observer: Observer, flow: FlowConfig) -> list[str]:
    """The topics on the target that are mirrors of the flow, or are being promoted."""
    target = observer.sides[flow.target]
    names = [name for name in target.topics if flow.takes_topic(name)]
    return sorted(name for name, found in (await mirror_topics(target, names)).items() if found.source)


async def promote(observer: Observer, flow: FlowConfig, topic: str, *, now: bool, timeout_s: float) -> Promotion:
    """Make a mirror topic of the flow's target an ordinary one. Raises ClientError; `Behind` when it was planned."""
    if not flow.exact:
        raise ConfigError(f"{flow.name} is not exact: its copies are ordinary topics; move groups by failover")
    source, target = observer.sides.get(flow.source), observer.sides[flow.target]
    found = (await mirror_topics(target, [topic])).get(topic)
    if found is None:
        raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{flow.target} has no such topic", topic=topic)
    if topic not in target.topics:  # it came since these were asked for
        await target.refresh()
    if found.source and found.state != PROMOTING and not now:
        if source is None:
            error = observer.errors[flow.source]
            raise ClientError(
                error.code, f"{error.message}; --now does not ask {flow.source}, and loses what is not copied"
            ).at(topic)
        await _caught_up(source, target, topic, timeout_s)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while found.source:
        try:
            return await _carry_on(source, target, topic, found)
        except ClientError as error:
            if error.code is not ErrorCode.POLICY_VIOLATION or loop.time() > deadline:
                raise
        # Somebody else promotes it as well, and was faster: it goes on as it stands now, perhaps by another node.
        await asyncio.sleep(_LOOK_S)
        await target.refresh()
        found = (await mirror_topics(target, [topic])).get(topic, found)
    return await _promoted_before(flow, source, topic, found)


async def _carry_on(source: Side | None, target: Side, topic: str, found: MirrorTopic) -> Promotion:
    """All steps that `found` leaves to do. POLICY_VIOLATION when it is not so any more."""
    mirrored, promoted = MirrorSource.parse(found.source), None
    if found.state != PROMOTING:
        # What a promotion noted that was taken back says nothing any more: it was copied on.
        await _alter(target, topic, {MIRROR_STATE: PROMOTING, MIRROR_PROMOTED: None})
    elif found.promoted and Promoted.parse(found.promoted).source == mirrored:
        promoted = Promoted.parse(found.promoted)
    if promoted is None:
        logs = await _end_mirrors(target, topic, found.source, abort_transactions=False)
        promoted = Promoted(mirrored, tuple(end for end, _ in logs))
        await _alter(target, topic, {MIRROR_PROMOTED: str(promoted)})
    logs = await _end_mirrors(target, topic, found.source, abort_transactions=True)
    await _alter(target, topic, {MIRROR_SOURCE: None, MIRROR_STATE: None})
    return Promotion(
        topic=topic,
        end_offsets=promoted.end_offsets,
        lost_records=await _beyond(source, promoted),
        aborted_transactions=sum(aborted for _, aborted in logs),
    )


async def reverse(observer: Observer, flow: FlowConfig, topic: str, *, discard_diverged: bool) -> Reversal:
    """Make the flow's source topic a mirror of the promoted one. Raises ClientError; `Diverged` when it holds more."""
    back = observer.config.flow(f"{flow.target}->{flow.source}")
    if not flow.exact or back is None or not back.exact:
        raise ConfigError(
            f'a flow copies the other way afterwards: write [flows."{flow.target}->{flow.source}"], exact'
        )
    source, target = observer.sides.get(flow.source), observer.sides[flow.target]
    if source is None:
        raise observer.errors[flow.source]
    found = (await mirror_topics(target, [topic])).get(topic)
    if found is None or found.source or not found.promoted:
        raise ClientError(
            ErrorCode.POLICY_VIOLATION,
            f"it is not promoted in {flow.target}: `ottla mirror promote` first",
            topic=topic,
        )
    wanted = mirror_source(target, topic)
    if topic not in source.topics:  # it was deleted, here or half way
        await _make(back, target, source, topic)
        return Reversal(topic=topic, in_place=False)
    original = (await mirror_topics(source, [topic]))[topic]
    if original.source and MirrorSource.parse(original.source) != wanted:
        raise ClientError(
            ErrorCode.POLICY_VIOLATION, f"in {flow.source} it is a mirror of {original.source}", topic=topic
        )
    if came_home(original, found, target.cluster_id):
        message = f"it was promoted in {flow.source} since: reverse the flow {back.name}"
        raise ClientError(ErrorCode.POLICY_VIOLATION, message, topic=topic)
    promoted = Promoted.parse(found.promoted)
    is_same = promoted.source == mirror_source(source, topic)
    if original.source:  # reversed already; unless somebody wrote in the last moment
        diverged = await _parted(source, target, topic, promoted)
    else:
        diverged = await _gone_on(source, topic, promoted.end_offsets if is_same else ())
    if diverged and not discard_diverged:
        raise Diverged(topic, diverged)
    if diverged:
        await _delete(source, topic)
        await _make(back, target, source, topic)
        return Reversal(topic=topic, in_place=False, diverged=diverged)
    if original.source:
        return Reversal(topic=topic, in_place=True, was_reversed=True)
    await _alter(source, topic, {MIRROR_SOURCE: str(wanted), MIRROR_STATE: None, MIRROR_PROMOTED: None})
    ends = await asyncio.gather(*(_log_end(source, one, str(wanted)) for one in _partitions(source, topic)))
    late = {
        index: end - due
        for index, (end, due) in enumerate(zip(ends, promoted.end_offsets, strict=False))
        if is_same and end > due
    }
    if late:
        raise Diverged(topic, late)
    return Reversal(topic=topic, in_place=True)


async def _make(flow: FlowConfig, source: Side, target: Side, topic: str) -> None:
    refused = await make_topics(flow, source, target, {topic: topic})
    if refused:
        raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, refused[topic], topic=topic)


async def _promoted_before(flow: FlowConfig, source: Side | None, topic: str, found: MirrorTopic) -> Promotion:
    if not found.promoted:
        raise ClientError(
            ErrorCode.POLICY_VIOLATION, f"in {flow.target} it is no mirror, and never was promoted", topic=topic
        )
    promoted = Promoted.parse(found.promoted)
    return Promotion(
        topic=topic,
        end_offsets=promoted.end_offsets,
        lost_records=await _beyond(source, promoted),
        aborted_transactions=0,
        was_promoted=True,
    )


async def _caught_up(source: Side, target: Side, topic: str, timeout_s: float) -> None:
    """Wait until the mirror ends where its source does, or somebody else promotes it without waiting.

    Whoever writes to the source is to stop before.
    """
    if topic not in source.topics:
        raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the source has no such topic; use --now", topic=topic)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        ends, copied = await asyncio.gather(_ends(source, topic), _ends(target, topic))
        behind = {
            index: end - (copied[index] if index < len(copied) else 0)
            for index, end in enumerate(ends)
            if index >= len(copied) or copied[index] < end
        }
        if not behind or not await _is_copied_on(target, topic):
            return
        if loop.time() > deadline:
            told = ", ".join(f"{count} in partition {index}" for index, count in behind.items())
            raise Behind(
                ErrorCode.REQUEST_TIMED_OUT,
                f"not copied yet: {told}. Stop whoever writes to the source, and let `ottla mirror run` copy; or lose "
                "it by --now",
                topic=topic,
            )
        await asyncio.sleep(_LOOK_S)
        await asyncio.gather(source.refresh(), target.refresh())


async def _is_copied_on(target: Side, topic: str) -> bool:
    found = (await mirror_topics(target, [topic])).get(topic)
    return found is None or (bool(found.source) and found.state != PROMOTING)


async def _end_mirrors(target: Side, topic: str, source: str, *, abort_transactions: bool) -> list[tuple[int, int]]:
    """By partition, asked of each leader: where its log ends, and how many transactions were aborted."""

    async def end(partition: TopicPartition) -> tuple[int, int]:
        log = await target.transport.mirrors.end_mirror(
            _leader(target, partition),
            MirrorPartition(target.topics[topic].topic_id, partition.partition, source),
            abort_transactions=abort_transactions,
            timeout_ms=_TIMEOUT_MS,
        )
        return log.log_end_offset, log.aborted_transactions

    return list(
        await asyncio.gather(
            *(target.patiently(partial(end, partition), _PATIENCE_S) for partition in _partitions(target, topic))
        )
    )


async def _beyond(source: Side | None, promoted: Promoted) -> dict[int, int] | None:
    """What the source holds behind what was copied of it; None when it cannot be asked, or the topic is gone."""
    topic = promoted.source.topic
    if source is None or source.topic_id(topic) != promoted.source.topic_id:
        return None
    starts = await _ends(source, topic, EARLIEST_TIMESTAMP)
    gone_on = await _gone_on(source, topic, promoted.end_offsets)
    due = dict(enumerate(promoted.end_offsets))
    deleted = {index: max(start - due.get(index, 0), 0) for index, start in enumerate(starts)}
    return {index: count - deleted[index] for index, count in gone_on.items() if count > deleted[index]}


async def _gone_on(source: Side, topic: str, end_offsets: Sequence[int]) -> dict[int, int]:
    """Offsets of a topic from these on, by partition, whether it still holds records there or has deleted them.

    As a mirror it would go on behind them, and never have what the other topic holds at these offsets.
    """
    due = dict(enumerate(end_offsets))
    return {
        index: end - due.get(index, 0)
        for index, end in enumerate(await _ends(source, topic))
        if end > due.get(index, 0)
    }


async def _parted(old: Side, new: Side, topic: str, promoted: Promoted) -> dict[int, int]:
    """Partitions of the old source that are not the beginning of the promoted topic, and what they hold too much."""
    compacted = await is_compacted(new, topic)
    counts, found = len(_partitions(new, topic)), {}
    for partition, end in zip(_partitions(old, topic), await _ends(old, topic), strict=True):
        index = partition.partition
        due = promoted.end_offsets[index] if index < len(promoted.end_offsets) else 0
        if index < counts and end:
            start, new_end = await asyncio.gather(
                new.offset_at(partition, EARLIEST_TIMESTAMP, read_committed=False),
                new.offset_at(partition, LATEST_TIMESTAMP, read_committed=False),
            )
            if end <= new_end:
                original, copy = await asyncio.gather(
                    raw_batches_at(new, partition, end - 1), raw_batches_at(old, partition, end - 1)
                )
                if why_parted(original, copy, end, source_start=start, compacted=compacted) is None:
                    continue
        if end > due:
            found[index] = end - due
    return found


async def _log_end(side: Side, partition: TopicPartition, source: str) -> int:
    """As its leader says, when that has heard that the topic is a mirror of `source`."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    mirror = MirrorPartition(side.topics[partition.topic].topic_id, partition.partition, source)
    while True:
        try:
            return (await side.transport.mirrors.log_of(_leader(side, partition), mirror)).log_end_offset
        except ClientError as error:
            late = asyncio.get_running_loop().time() > deadline
            if late or not (error.retriable or error.code is ErrorCode.POLICY_VIOLATION):
                raise
            await asyncio.sleep(_LOOK_S)
            await side.refresh()


async def _delete(side: Side, topic: str) -> None:
    results = await side.transport.delete_topics([topic], timeout_ms=_TIMEOUT_MS)
    error = results[topic]
    if error is not None and error.code is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        raise error.at(topic)

    async def is_gone() -> None:
        await side.refresh()
        if topic in side.topics:
            raise ClientError(ErrorCode.REQUEST_TIMED_OUT, "it is still there", topic=topic)

    await side.patiently(is_gone, _PATIENCE_S)


async def _alter(side: Side, topic: str, values: Mapping[str, str | None]) -> None:
    resource = ConfigResource.topic(topic)
    changes = [ConfigChange(key, value) for key, value in values.items()]

    async def alter() -> None:
        error = (await side.transport.alter_configs({resource: changes}, validate_only=False))[resource]
        if error is not None:
            raise error.at(topic)

    await side.patiently(alter, _PATIENCE_S)


async def _ends(side: Side, topic: str, timestamp: int = LATEST_TIMESTAMP) -> Sequence[int]:
    return await asyncio.gather(
        *(side.offset_at(partition, timestamp, read_committed=False) for partition in _partitions(side, topic))
    )


def _partitions(side: Side, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, index) for index in range(len(side.topics[topic].partitions))]


def _leader(side: Side, partition: TopicPartition) -> int:
    node_id, _ = side.leader(partition)
    if node_id < 0:
        raise ClientError(ErrorCode.LEADER_NOT_AVAILABLE, "no leader is known").at(*partition)
    return node_id
