"""Keeping topics in step: which are copied, those that are missing made, partitions added, configs carried over."""

import logging
import re
from collections.abc import Mapping
from typing import Final

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import ConfigChange
from ottla.client.types import ConfigEntry, ConfigResource, ConfigSource, NewTopic
from ottla.core.mirror_topics import MIRROR_PREFIX, MIRROR_SOURCE, MirrorSource
from ottla.mirror.config import FlowConfig
from ottla.mirror.engine.bookkeeping import create_topic
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.troubles import Troubles

logger = logging.getLogger("ottla.mirror")

_CLEANUP_POLICY: Final = "cleanup.policy"
_AT_ONCE: Final = 200  # topics in one request
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")  # what may be a name, though it is an expression too


async def missing_topics(flow: FlowConfig, source: Side) -> dict[str, str]:
    """What the flow is to take and the source does not show, and why, as far as it says so. ClientError."""
    missing = flow.topics.unmatched(source.topics)
    # Of topics that one may not describe a cluster tells only who asks for them by their names.
    named = [one for one in missing if _NAME.fullmatch(one)]
    _, errors = await source.transport.describe_topics(named, allow_auto_create=False)
    return {
        one: str(source.explained(errors[one], "Describe"))
        if one in errors and errors[one].code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
        else f"{source.alias} has no topic {one} yet"
        for one in missing
    }


async def keep_topics(flow: FlowConfig, source: Side, target: Side, troubles: Troubles) -> dict[str, str]:
    """Names on the target by those on the source, of what is there on both sides when this returns."""
    wanted = {name: flow.remote_topic(name) for name in source.topics if flow.takes_topic(name)}
    refused = await make_topics(flow, source, target, wanted)
    troubles.keep("topic", refused | await add_partitions(flow, source, target, wanted))
    return {name: remote for name, remote in wanted.items() if remote in target.topics}


async def make_topics(flow: FlowConfig, source: Side, target: Side, wanted: Mapping[str, str]) -> dict[str, str]:
    """Make those that the target does not have; which could not be made, and why. Names as in `keep_topics`."""
    missing = [name for name, remote in wanted.items() if remote not in target.topics]
    refused: dict[str, str] = {}
    for start in range(0, len(missing), _AT_ONCE):
        some = {name: wanted[name] for name in missing[start : start + _AT_ONCE]}
        refused |= await _create(flow, source, target, some)
    if missing:
        await target.refresh()
    return refused


async def add_partitions(flow: FlowConfig, source: Side, target: Side, wanted: Mapping[str, str]) -> dict[str, str]:
    """Give copies as many partitions as their originals have; which get none, and why. Names as in `keep_topics`."""
    short = {
        remote: name
        for name, remote in wanted.items()
        if remote in target.topics and len(target.topics[remote].partitions) < len(source.topics[name].partitions)
    }
    if not short:
        return {}
    counts = {remote: len(source.topics[name].partitions) for remote, name in short.items()}
    results = await target.transport.create_partitions(counts, timeout_ms=flow.admin_timeout_ms, validate_only=False)
    refused: dict[str, str] = {}
    for remote, error in results.items():
        if error is None:
            logger.info("%s: %s has %d partitions now", flow.name, remote, counts[remote])
        else:
            told = target.explained(error, "Alter", remote)
            refused[short[remote]] = f"{remote} gets no new partitions: {told}"
    await target.refresh()
    return refused


async def _create(flow: FlowConfig, source: Side, target: Side, names: Mapping[str, str]) -> dict[str, str]:
    configs = await _configs_of(source, list(names))
    refused: dict[str, str] = {}
    topics: dict[str, NewTopic] = {}
    for name, remote in names.items():
        known = configs.get(name, {})
        if isinstance(known, ClientError):
            # A copy of a compacted topic that is not compacted would lose by its retention what is to be kept.
            if flow.exact or flow.sync_topic_configs_ms is not None:
                refused[name] = f"{remote} is not made, as the configs of {name} cannot be read: {known}"
                continue
            known = {}
        topics[remote] = NewTopic(
            remote,
            len(source.topics[name].partitions),
            flow.replication_factor if flow.replication_factor > 0 else None,
            configs=_carried_over(flow, known) | _made_a_mirror(flow, source, name),
        )
    if not topics:
        return refused
    originals = {remote: name for name, remote in names.items()}
    results = await target.transport.create_topics(
        list(topics.values()), timeout_ms=flow.admin_timeout_ms, validate_only=False
    )
    for remote, result in results.items():
        if not isinstance(result, ClientError):
            logger.info("%s: created %s with %d partitions", flow.name, remote, result.num_partitions)
        elif result.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            told = target.explained(result, "Create", remote)
            refused[originals[remote]] = f"{remote} cannot be created: {told}"
    return refused


def _made_a_mirror(flow: FlowConfig, source: Side, name: str) -> dict[str, str]:
    """From its first moment on, so that nobody else ever writes to it."""
    return {MIRROR_SOURCE: str(mirror_source(source, name))} if flow.exact else {}


def mirror_source(side: Side, topic: str) -> MirrorSource:
    """What a mirror of this topic says of it."""
    return MirrorSource(side.cluster_id, side.topics[topic].topic_id, topic)


async def keep_configs(
    flow: FlowConfig, source: Side, target: Side, names: Mapping[str, str], troubles: Troubles
) -> None:
    """Set on the copies what is set on the originals, and reset what is reset there."""
    listed = list(names)
    refused: dict[str, str] = {}
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        originals = await _configs_of(source, some)
        copies = await _configs_of(target, [names[name] for name in some])
        changes: dict[ConfigResource, list[ConfigChange]] = {}
        for name in some:
            original, copy = originals.get(name), copies.get(names[name])
            unknown = next((one for one in (original, copy) if isinstance(one, ClientError)), None)
            if unknown is not None:
                refused[name] = f"the configs of {names[name]} are not kept in step: {unknown}"
            elif isinstance(original, dict) and isinstance(copy, dict):
                change = _difference(flow, original, copy)
                if change:
                    changes[ConfigResource.topic(names[name])] = change
        if not changes:
            continue
        remotes = {names[name]: name for name in some}
        for resource, error in (await target.transport.alter_configs(changes, validate_only=False)).items():
            if error is not None:
                told = target.explained(error, "AlterConfigs", resource.name)
                refused[remotes[resource.name]] = f"the configs of {resource.name} are not kept in step: {told}"
    troubles.keep("configs", refused)


async def ensure_topic(
    side: Side, name: str, replication_factor: int, timeout_ms: int, configs: Mapping[str, str]
) -> str:
    """A topic of one partition for records of the mirror itself; its id."""
    if name not in side.topics:
        copies = replication_factor if replication_factor > 0 else None
        await create_topic(side, NewTopic(name, 1, copies, configs=configs), timeout_ms)
    return side.topics[name].topic_id


async def _configs_of(side: Side, names: list[str]) -> dict[str, dict[str, ConfigEntry] | ClientError]:
    """By topic; of one that is gone meanwhile nothing."""
    found = await side.transport.describe_configs(
        [ConfigResource.topic(name) for name in names], include_documentation=False
    )
    return {
        resource.name: side.explained(entries, "DescribeConfigs", resource.name)
        if isinstance(entries, ClientError)
        else entries
        for resource, entries in found.items()
        if not isinstance(entries, ClientError) or entries.code is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    }


def _carried_over(flow: FlowConfig, entries: Mapping[str, ConfigEntry]) -> dict[str, str]:
    """What is set on the original itself, and is to be the same on the copy.

    Whether a topic is a mirror itself is no such thing. Of an exact copy `cleanup.policy` is to be the same wherever it
    comes from: it tells whether offsets may have gaps.
    """
    always = {_CLEANUP_POLICY} if flow.exact else set()
    return {
        key: entry.value
        for key, entry in entries.items()
        if entry.value is not None
        and not key.startswith(MIRROR_PREFIX)
        and (key in always or (entry.source is ConfigSource.TOPIC and flow.configs.takes(key)))
    }


def _difference(
    flow: FlowConfig, original: Mapping[str, ConfigEntry], copy: Mapping[str, ConfigEntry]
) -> list[ConfigChange]:
    wanted, present = _carried_over(flow, original), _carried_over(flow, copy)
    set_anew = [ConfigChange(key, value) for key, value in wanted.items() if present.get(key) != value]
    return set_anew + [ConfigChange(key, None) for key in present if key not in wanted]
