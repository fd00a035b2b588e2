"""Keeping topics in step: which are copied, those that are missing made, partitions added, configs carried over."""

import logging
from collections.abc import Mapping
from typing import Final

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import ConfigChange
from ottla.client.types import ConfigEntry, ConfigResource, ConfigSource, NewTopic
from ottla.core.mirror_topics import MIRROR_PREFIX, MIRROR_SOURCE, MirrorSource
from ottla.mirror.config import FlowConfig
from ottla.mirror.engine.bookkeeping import create_topic
from ottla.mirror.engine.side import Side

logger = logging.getLogger("ottla.mirror")

_CLEANUP_POLICY: Final = "cleanup.policy"
_AT_ONCE: Final = 200  # topics in one request


async def keep_topics(flow: FlowConfig, source: Side, target: Side) -> dict[str, str]:
    """Names on the target by those on the source, of what is there on both sides when this returns."""
    wanted = {name: flow.remote_topic(name) for name in source.topics if flow.takes_topic(name)}
    await make_topics(flow, source, target, wanted)
    await add_partitions(flow, source, target, wanted)
    return {name: remote for name, remote in wanted.items() if remote in target.topics}


async def make_topics(flow: FlowConfig, source: Side, target: Side, wanted: Mapping[str, str]) -> bool:
    """Make those that the target does not have; whether there were any. Names as in `keep_topics`."""
    missing = [name for name, remote in wanted.items() if remote not in target.topics]
    for start in range(0, len(missing), _AT_ONCE):
        await _create(flow, source, target, {name: wanted[name] for name in missing[start : start + _AT_ONCE]})
    if missing:
        await target.refresh()
    return bool(missing)


async def add_partitions(flow: FlowConfig, source: Side, target: Side, wanted: Mapping[str, str]) -> None:
    """Give copies as many partitions as their originals have."""
    short = {
        remote: len(source.topics[name].partitions)
        for name, remote in wanted.items()
        if remote in target.topics and len(target.topics[remote].partitions) < len(source.topics[name].partitions)
    }
    if not short:
        return
    results = await target.transport.create_partitions(short, timeout_ms=flow.admin_timeout_ms, validate_only=False)
    for remote, error in results.items():
        if error is None:
            logger.info("%s: %s has %d partitions now", flow.name, remote, short[remote])
        else:
            logger.warning("%s: %s gets no partitions: %s", flow.name, remote, error)
    await target.refresh()


async def _create(flow: FlowConfig, source: Side, target: Side, names: Mapping[str, str]) -> None:
    configs = await _configs_of(source, list(names))
    topics = [
        NewTopic(
            remote,
            len(source.topics[name].partitions),
            flow.replication_factor if flow.replication_factor > 0 else None,
            configs=_carried_over(flow, configs.get(name, {})) | _made_a_mirror(flow, source, name),
        )
        for name, remote in names.items()
    ]
    results = await target.transport.create_topics(topics, timeout_ms=flow.admin_timeout_ms, validate_only=False)
    for remote, result in results.items():
        if not isinstance(result, ClientError):
            logger.info("%s: created %s with %d partitions", flow.name, remote, result.num_partitions)
        elif result.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            logger.warning("%s: %s cannot be created: %s", flow.name, remote, result)


def _made_a_mirror(flow: FlowConfig, source: Side, name: str) -> dict[str, str]:
    """From its first moment on, so that nobody else ever writes to it."""
    return {MIRROR_SOURCE: str(mirror_source(source, name))} if flow.exact else {}


def mirror_source(side: Side, topic: str) -> MirrorSource:
    """What a mirror of this topic says of it."""
    return MirrorSource(side.cluster_id, side.topics[topic].topic_id, topic)


async def keep_configs(flow: FlowConfig, source: Side, target: Side, names: Mapping[str, str]) -> None:
    """Set on the copies what is set on the originals, and reset what is reset there."""
    listed = list(names)
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        originals = await _configs_of(source, some)
        copies = await _configs_of(target, [names[name] for name in some])
        changes: dict[ConfigResource, list[ConfigChange]] = {}
        for name in some:
            change = _difference(flow, originals.get(name, {}), copies.get(names[name], {}))
            if change:
                changes[ConfigResource.topic(names[name])] = change
        if not changes:
            continue
        for resource, error in (await target.transport.alter_configs(changes, validate_only=False)).items():
            if error is not None:
                logger.warning("%s: the configs of %s are not kept in step: %s", flow.name, resource.name, error)


async def ensure_topic(
    side: Side, name: str, replication_factor: int, timeout_ms: int, configs: Mapping[str, str]
) -> str:
    """A topic of one partition for records of the mirror itself; its id."""
    if name not in side.topics:
        copies = replication_factor if replication_factor > 0 else None
        await create_topic(side, NewTopic(name, 1, copies, configs=configs), timeout_ms)
    return side.topics[name].topic_id


async def _configs_of(side: Side, names: list[str]) -> dict[str, dict[str, ConfigEntry]]:
    found = await side.transport.describe_configs(
        [ConfigResource.topic(name) for name in names], include_documentation=False
    )
    return {resource.name: entries for resource, entries in found.items() if not isinstance(entries, ClientError)}


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
