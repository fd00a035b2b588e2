"""Groups' offsets on the target: checkpoints as MM2 writes them, and groups that are not active there moved along."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from ottla.client.coordination import CoordinatorType, GroupListing, GroupMetadata, OffsetAndMetadata
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import TopicPartition
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.advice import DENIED
from ottla.mirror.core.groups import Changes, Copy, GroupPlan, plan_group
from ottla.mirror.core.offset_map import OffsetMap
from ottla.mirror.core.progress import Ledger, MapId
from ottla.mirror.engine.exact_books import Copies, exact_copies
from ottla.mirror.engine.plain_writer import write_records
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.topics import ensure_topic
from ottla.mirror.engine.troubles import Troubles

_CONFIGS: Final = {"cleanup.policy": "compact"}
_TIMEOUT_MS: Final = 10_000
_NODE_GONE_S: Final = 15.0  # a node that was killed is described as one of the cluster for its session (9 s) still
_GROUP: Final = CoordinatorType.GROUP


class FlowBack(NamedTuple):
    """The flow in the other direction, and what its target, our source, knows of its copies."""

    flow: FlowConfig
    ledger: Ledger


class GroupKeeper:
    """Of one flow. In all calls `names` are those of topics on the target, by those on the source."""

    def __init__(
        self,
        flow: FlowConfig,
        source: Side,
        target: Side,
        ledger: Ledger,
        troubles: Troubles,
        back: FlowBack | None = None,
    ) -> None:
        self._flow = flow
        self._troubles = troubles
        self._source, self._target = source, target
        self._ledger, self._back = ledger, back
        self._changes = Changes()
        self._group_ids: list[str] = []
        self._hidden: dict[str, str] = {}  # groups that the source does not list, and why

    async def run(self, names: Callable[[], Mapping[str, str]], is_mine: asyncio.Event) -> None:
        """Until it is cancelled; only while `is_mine` is set."""
        flow = self._flow
        intervals = [one for one in (flow.emit_checkpoints_ms, flow.sync_group_offsets_ms) if one is not None]
        if not intervals:
            return
        loop = asyncio.get_running_loop()
        groups_at = 0.0
        while True:
            await is_mine.wait()
            try:
                if loop.time() >= groups_at:
                    self._group_ids = await group_ids(self._source, flow)
                    self._hidden = await self._hidden_groups()
                    groups_at = loop.time() + (flow.refresh_groups_ms or 1 << 40) / 1000
                await self.keep(names(), commit=flow.sync_group_offsets_ms is not None)
                self._troubles.keep("groups", {})
            except ClientError as error:
                self._troubles.keep("groups", {"": f"groups are not kept in step: {error}"})
            await asyncio.sleep(min(intervals) / 1000)

    async def keep(self, names: Mapping[str, str], *, commit: bool) -> dict[str, GroupPlan]:
        """Once: write checkpoints that say something new, and with `commit` move the groups. What was planned."""
        plans: dict[str, GroupPlan] = {}
        ledger: Copies = self._ledger
        if self._flow.exact:
            ledger = await exact_copies(self._flow, self._target, names.values())
        denied = dict(self._hidden)
        for group_id in self._group_ids:
            try:
                plan = await plan_for(self._flow, self._source, self._target, ledger, names, group_id, back=self._back)
                plans[group_id] = plan
                if commit and plan.commits:
                    await commit_offsets(self._target, group_id, plan.commits)
            except ClientError as error:
                if error.code not in DENIED:
                    raise
                denied[group_id] = f"group {group_id} is not kept in step: {error}"  # it holds up no other
        self._troubles.keep("group", denied)
        if self._flow.emit_checkpoints_ms is not None:
            due = self._changes.new_ones([one for plan in plans.values() for one in plan.checkpoints])
            if due:
                topic = self._flow.policy.checkpoints_topic(self._flow.source)
                factor = self._flow.checkpoints_replication_factor
                await ensure_topic(self._target, topic, factor, self._flow.admin_timeout_ms, _CONFIGS)
                await write_records(self._target, topic, [one.encode() for one in due])
                self._changes.written(due)
        return plans

    async def _hidden_groups(self) -> dict[str, str]:
        """Groups that are named, and that we may not see: lists leave them out."""
        hidden: dict[str, str] = {}
        for name in self._flow.groups.unmatched(self._group_ids):
            if re.escape(name) == name:  # it is a name, and no expression
                try:
                    await group_state(self._source, name)
                except ClientError as error:
                    if error.code not in DENIED:
                        raise
                    hidden[name] = f"group {name} is not kept in step: {error}"
        return hidden


async def group_ids(side: Side, flow: FlowConfig) -> list[str]:
    """The groups that the flow takes; a node that does not answer is waited for until it does, or is gone."""

    async def ask() -> list[list[GroupListing]]:
        nodes = [node.node_id for node in (await side.transport.describe_cluster()).nodes if not node.fenced]
        return await asyncio.gather(
            *(side.transport.groups.list_groups(node_id, states=(), types=()) for node_id in nodes)
        )

    lists = await side.patiently(ask, _NODE_GONE_S)
    return sorted({one.group_id for part in lists for one in part if flow.groups.takes(one.group_id)})


async def plan_for(
    flow: FlowConfig,
    source: Side,
    target: Side,
    ledger: Copies,
    names: Mapping[str, str],
    group_id: str,
    *,
    back: FlowBack | None,
    may_go_back: bool | None = None,
) -> GroupPlan:
    """What to write for one group. `may_go_back`: instead of what the flow is configured to."""
    committed = {
        partition: offset
        for partition, offset in (await committed_offsets(source, group_id)).items()
        if partition.topic in names
    }
    if not committed:
        return GroupPlan()
    state = await group_state(target, group_id)
    on_target = {} if state is None else await committed_offsets(target, group_id)

    return plan_group(
        group_id,
        committed,
        lambda partition: known_copy(source, target, ledger, back, partition, names[partition.topic]),
        target_state=state,
        target_offsets={partition: one.offset for partition, one in on_target.items()},
        may_go_back=flow.groups_may_go_back if may_go_back is None else may_go_back,
    )


def known_copy(
    source: Side, target: Side, ledger: Copies, back: FlowBack | None, original: TopicPartition, remote: str
) -> Copy | None:
    """What is known of a partition's copy, which is called `remote`; None: nothing."""
    original_id, copy_id = source.topic_id(original.topic), target.topic_id(remote)
    if original_id is None or copy_id is None:
        return None
    found = ledger.get(MapId(source.cluster_id, original_id, copy_id, original.partition))
    if found is None:
        return None
    copy = Copy(TopicPartition(remote, original.partition), found.map)
    if back is None or not back.flow.takes_topic(remote) or back.flow.remote_topic(remote) != original.topic:
        return copy
    returning = back.ledger.get(MapId(target.cluster_id, copy_id, original_id, original.partition))
    return copy._replace(back=OffsetMap() if returning is None else returning.map)


async def committed_offsets(side: Side, group_id: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """What a group has committed; raises the error of a partition of which it cannot be told."""
    try:
        found = await side.coordinators.ask(
            _GROUP,
            group_id,
            lambda node_id: side.transport.groups.fetch_offsets(
                node_id, GroupMetadata(group_id=group_id), None, require_stable=False
            ),
            _TIMEOUT_MS,
        )
    except ClientError as error:
        raise side.explained(error, "Describe", group_id) from error
    for partition, offset in found.items():
        if isinstance(offset, ClientError):
            raise side.explained(offset.at(*partition), "Describe", group_id)
    return {one: offset for one, offset in found.items() if isinstance(offset, OffsetAndMetadata)}


async def group_state(side: Side, group_id: str) -> str | None:
    """None: there is no such group."""
    try:
        described = await side.coordinators.ask(
            _GROUP, group_id, lambda node_id: side.transport.groups.describe_group(node_id, group_id), _TIMEOUT_MS
        )
    except ClientError as error:
        if error.code is ErrorCode.GROUP_ID_NOT_FOUND:
            return None
        raise side.explained(error, "Describe", group_id) from error
    return described.state


async def commit_offsets(side: Side, group_id: str, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """For a group without members; raises the first partition's error."""
    try:
        outcomes = await side.coordinators.settle(
            _GROUP,
            group_id,
            offsets,
            lambda node_id, left: side.transport.groups.commit_offsets(node_id, GroupMetadata(group_id=group_id), left),
            _TIMEOUT_MS,
        )
    except ClientError as error:
        raise side.explained(error, "Read", group_id) from error
    for partition, outcome in outcomes.items():
        if outcome is not None:
            raise side.explained(outcome.at(*partition), "Read", group_id)
