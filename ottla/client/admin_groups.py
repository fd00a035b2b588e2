"""The part of the admin client that concerns groups: list, describe, delete, and their committed offsets."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from ottla.client.coordination import (
    CoordinatorType,
    GroupCalls,
    GroupDescription,
    GroupListing,
    GroupMetadata,
    OffsetAndMetadata,
    Outcomes,
    offsets_to_commit,
)
from ottla.client.coordinators import Coordinators
from ottla.client.errors import ClientError, PartialFailure
from ottla.client.transport import Transport
from ottla.client.types import ClusterDescription, TopicPartition

T = TypeVar("T")
GROUP = CoordinatorType.GROUP


class AdminGroups(ABC):
    """What `Admin` inherits."""

    _coordinators: Coordinators

    @abstractmethod
    async def _retrying(self, call: Callable[[Transport], Awaitable[T]]) -> T: ...

    @abstractmethod
    def _usable(self) -> Transport: ...

    @abstractmethod
    async def describe_cluster(self) -> ClusterDescription: ...

    async def list_groups(self, *, states: Sequence[str] = (), types: Sequence[str] = ()) -> list[GroupListing]:
        """The groups of every node, by name. Filters in Kafka's words: `Stable`, `Empty`; `classic`, `consumer`."""
        groups = await self._of_every_node(
            lambda node_id, transport: transport.groups.list_groups(node_id, states=states, types=types)
        )
        return sorted(groups, key=lambda group: group.group_id)

    async def describe_groups(self, group_ids: Iterable[str]) -> list[GroupDescription]:
        """State and members; raises PartialFailure when some are not there."""
        return list((await self._each(group_ids, lambda groups: groups.describe_group)).values())

    async def describe_group(self, group_id: str) -> GroupDescription:
        """State and members of one group; raises ClientError (GROUP_ID_NOT_FOUND) when there is none."""
        calls = self._usable().groups
        return await self._coordinators.ask(GROUP, group_id, lambda node_id: calls.describe_group(node_id, group_id))

    async def delete_groups(self, group_ids: Iterable[str]) -> None:
        """Delete groups that have no members, with their committed offsets."""
        await self._each(group_ids, lambda groups: groups.delete_group)

    async def list_group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition] | None = None, *, require_stable: bool = False
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What the group has committed, of these partitions or of all; without those where nothing is.

        `require_stable`: wait while an open transaction may change an offset.
        """
        calls, group = self._usable().groups, GroupMetadata(group_id=group_id)
        found = await self._coordinators.ask(
            GROUP,
            group_id,
            lambda node_id: calls.fetch_offsets(node_id, group, partitions, require_stable=require_stable),
        )
        errors = {partition: one for partition, one in found.items() if isinstance(one, ClientError)}
        offsets = {partition: one for partition, one in found.items() if isinstance(one, OffsetAndMetadata)}
        if errors:
            raise PartialFailure(errors, offsets)
        return dict(sorted(offsets.items()))

    async def alter_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, int | OffsetAndMetadata]
    ) -> None:
        """Set what a group without members has committed; UNKNOWN_MEMBER_ID when it has some."""
        calls, group = self._usable().groups, GroupMetadata(group_id=group_id)
        wanted = offsets_to_commit(offsets)
        _raise_failures(
            await self._coordinators.settle(
                GROUP, group_id, wanted, lambda node_id, left: calls.commit_offsets(node_id, group, left)
            )
        )

    async def delete_group_offsets(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget what the group has committed of partitions that no member reads."""
        calls, wanted = self._usable().groups, dict.fromkeys(partitions)
        _raise_failures(
            await self._coordinators.settle(
                GROUP, group_id, wanted, lambda node_id, left: calls.delete_offsets(node_id, group_id, list(left))
            )
        )

    async def _each(
        self, group_ids: Iterable[str], call: Callable[[GroupCalls], Callable[[int, str], Awaitable[T]]]
    ) -> dict[str, T]:
        """The same call about several groups; raises PartialFailure."""
        calls = self._usable().groups
        results: dict[str, T] = {}
        errors: dict[str, ClientError] = {}

        async def one(group_id: str) -> None:
            try:
                results[group_id] = await self._coordinators.ask(
                    GROUP, group_id, lambda node_id: call(calls)(node_id, group_id)
                )
            except ClientError as error:
                errors[group_id] = error

        wanted = list(dict.fromkeys(group_ids))
        await asyncio.gather(*(one(group_id) for group_id in wanted))
        if errors:
            raise PartialFailure({group_id: errors[group_id] for group_id in wanted if group_id in errors}, results)
        return {group_id: results[group_id] for group_id in wanted}

    async def _of_every_node(self, call: Callable[[int, Transport], Awaitable[list[T]]]) -> list[T]:
        """What all nodes that take part tell, in one list."""
        nodes = [node.node_id for node in (await self.describe_cluster()).nodes if not node.fenced]
        parts = await asyncio.gather(*(self._retrying(partial(call, node_id)) for node_id in nodes))
        return [item for part in parts for item in part]


def _raise_failures(outcomes: Outcomes) -> None:
    errors = {partition: error for partition, error in outcomes.items() if error is not None}
    if errors:
        raise PartialFailure(errors, {partition: None for partition in outcomes if partition not in errors})
