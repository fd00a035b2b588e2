"""The part of the blocking admin client that concerns groups."""

from collections.abc import Iterable, Mapping, Sequence

from ottla.client import admin as asyncio_admin
from ottla.client.coordination import GroupDescription, GroupListing, OffsetAndMetadata
from ottla.client.sync.loop_thread import LoopThread
from ottla.client.types import TopicPartition


class AdminGroups:
    """What `Admin` inherits; see `ottla.client.admin_groups`."""

    _admin: asyncio_admin.Admin
    _thread: LoopThread

    def list_groups(self, *, states: Sequence[str] = (), types: Sequence[str] = ()) -> list[GroupListing]:
        """The groups of every node, by name."""
        return self._thread.run(self._admin.list_groups(states=states, types=types))

    def describe_groups(self, group_ids: Iterable[str]) -> list[GroupDescription]:
        """State and members."""
        return self._thread.run(self._admin.describe_groups(group_ids))

    def describe_group(self, group_id: str) -> GroupDescription:
        """State and members of one group."""
        return self._thread.run(self._admin.describe_group(group_id))

    def delete_groups(self, group_ids: Iterable[str]) -> None:
        """Delete groups that have no members, with their committed offsets."""
        self._thread.run(self._admin.delete_groups(group_ids))

    def list_group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition] | None = None, *, require_stable: bool = False
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What the group has committed, of these partitions or of all."""
        return self._thread.run(self._admin.list_group_offsets(group_id, partitions, require_stable=require_stable))

    def alter_group_offsets(self, group_id: str, offsets: Mapping[TopicPartition, int | OffsetAndMetadata]) -> None:
        """Set what a group without members has committed."""
        self._thread.run(self._admin.alter_group_offsets(group_id, offsets))

    def delete_group_offsets(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget what the group has committed of partitions that no member reads."""
        self._thread.run(self._admin.delete_group_offsets(group_id, partitions))
