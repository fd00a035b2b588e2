"""The part of the consumer that concerns its group: what it commits, and how it begins and ends a poll."""

import asyncio
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from ottla.client.commits import Commits, processed_offsets
from ottla.client.config import ConsumerConfig
from ottla.client.coordination import GroupMetadata, OffsetAndMetadata, Offsets, offsets_to_commit
from ottla.client.coordinators import Coordinators
from ottla.client.errors import ClientError, CommitFailed, ErrorCode
from ottla.client.fetcher import Fetcher
from ottla.client.group_session import GroupSession
from ottla.client.membership import Membership
from ottla.client.partitions import PartitionState
from ottla.client.transport import Transport
from ottla.client.types import TopicPartition, several

logger = logging.getLogger("ottla.client")


class GroupConsumer(ABC):
    """What `Consumer` inherits. Without a `group_id` nothing here does anything."""

    _config: ConsumerConfig
    _group_id: str | None
    _fetcher: Fetcher
    _commits: Commits | None = None
    _session: GroupSession | None = None

    def __init__(self) -> None:
        self._given: list[PartitionState] = []  # records of these were given since the last poll began
        self._commit_at = 0.0

    @abstractmethod
    def _check_usable(self) -> None: ...

    def _start_group(self, transport: Transport, coordinators: Coordinators) -> Commits | None:
        if self._group_id is None:
            return None
        self._commits = Commits(self._config, transport, coordinators, self._group_id, self._membership)
        self._commit_at = self._next_commit_at()
        return self._commits

    def _join(self, transport: Transport, coordinators: Coordinators, topics: Sequence[str]) -> None:
        """Be a member that reads these topics."""
        if self._session is None:
            assert self._group_id is not None
            membership = Membership(
                group_id=self._group_id,
                member_id=str(uuid.uuid4()),
                instance_id=self._config.group_instance_id,
                rack_id=self._config.client_rack,
                rebalance_timeout_ms=self._config.max_poll_interval_ms,
                assignor=self._config.group_remote_assignor,
            )
            self._session = GroupSession(
                self._config, transport, coordinators, self._fetcher, membership, self._commit_given_up
            )
        self._session.subscribe(topics)

    # --- for the application

    async def commit(self, offsets: Offsets | None = None) -> None:
        """Commit these offsets (of the next records to read), or the position of every partition; wait for it.

        Raises CommitFailed when the group has given the partitions to others meanwhile; ValueError for a negative
        offset.
        """
        commits, wanted = self._to_commit(offsets)
        await commits.commit(wanted)
        self._note_committed(wanted)

    def commit_async(self, offsets: Offsets | None = None) -> "asyncio.Task[None]":
        """As `commit`, in the background and in the order of the calls; a failure is logged."""
        commits, wanted = self._to_commit(offsets)
        task = commits.commit_soon(wanted)
        task.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else self._note_committed(wanted)
        )
        return task

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed of these partitions; None where nothing is."""
        commits = self._usable_commits()
        wanted = several(partitions)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.api_timeout_ms / 1000
        while True:
            try:
                found = await commits.committed(wanted)
                errors = [one for one in found.values() if isinstance(one, ClientError)]
                if not errors:
                    return {one: _committed(found.get(one)) for one in wanted}
                error = errors[0]
            except ClientError as failure:
                error = failure
            if not error.retriable or loop.time() > deadline:
                raise error
            await asyncio.sleep(self._config.retry_backoff_ms / 1000)

    def group_metadata(self) -> GroupMetadata:
        """The group and this consumer's membership in it, for `Transaction.send_offsets`. Raises CommitFailed."""
        self._usable_commits()
        return self._membership()

    @property
    def commits_by_itself(self) -> bool:
        """Whether the consumer commits what earlier polls gave; then no transaction can."""
        return self._commits is not None and self._config.enable_auto_commit

    def forget_given(self) -> None:
        """The application was at work on what it got last, and is not done with it: that is not committed."""
        self._given.clear()

    # --- around a poll

    def _poll_begins(self) -> None:
        """The application is done with what it got before. For consumers that have a group."""
        self._mark_processed()
        if self._session is not None:
            self._session.poll_begins()
        if self._config.enable_auto_commit and asyncio.get_running_loop().time() >= self._commit_at:
            self._commit_at = self._next_commit_at()
            wanted = processed_offsets(self._fetcher.partitions.values())
            if wanted:
                self.commit_async(wanted)

    def _poll_ends(self) -> None:
        if self._session is not None:
            self._session.poll_ends()

    async def _leave_group(self) -> None:
        """Commit, tell the application, and leave."""
        if self._commits is None:
            return
        self._mark_processed()
        try:
            if self._session is not None:
                await self._session.leave()
            elif self._config.enable_auto_commit:
                await self._commit_given_up(list(self._fetcher.partitions))
        finally:
            await self._commits.finish()

    # --- inside

    def _mark_processed(self) -> None:
        for state in self._given:
            state.processed = state.position
        self._given.clear()

    def _membership(self) -> GroupMetadata:
        """Raises CommitFailed while the consumer is no member: what it got was given to others."""
        if self._session is not None:
            metadata = self._session.membership.metadata()
            if metadata.member_epoch < 0:
                raise CommitFailed(ClientError(ErrorCode.UNKNOWN_MEMBER_ID))
            return metadata
        assert self._group_id is not None
        return GroupMetadata(group_id=self._group_id)

    def _next_commit_at(self) -> float:
        return asyncio.get_running_loop().time() + self._config.auto_commit_interval_ms / 1000

    def _usable_commits(self) -> Commits:
        self._check_usable()
        if self._commits is None:
            raise ClientError(
                ErrorCode.INVALID_GROUP_ID, "there is no group to commit for: give the consumer a group_id"
            )
        return self._commits

    def _to_commit(self, offsets: Offsets | None) -> tuple[Commits, dict[TopicPartition, OffsetAndMetadata]]:
        commits = self._usable_commits()
        if offsets is None:
            return commits, {
                partition: OffsetAndMetadata(state.position)
                for partition, state in self._fetcher.partitions.items()
                if state.position is not None and state.position != state.committed
            }
        return commits, offsets_to_commit(offsets)

    def _note_committed(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        for partition, one in offsets.items():
            state = self._fetcher.partitions.get(partition)
            if state is not None:
                state.committed = one.offset

    async def _commit_given_up(self, partitions: Sequence[TopicPartition]) -> None:
        """The last chance; what fails is read again by whoever gets the partitions."""
        states = [state for one in partitions if (state := self._fetcher.partitions.get(one)) is not None]
        wanted = processed_offsets(states)
        if self._commits is None or not wanted:
            return
        try:
            async with asyncio.timeout(self._config.request_timeout_ms / 1000):
                await self._commits.commit(wanted)
            self._note_committed(wanted)
        except ClientError as error:
            logger.warning("group %s: not committed on giving up partitions: %s", self._group_id, error)
        except TimeoutError:
            logger.warning("group %s: not committed on giving up partitions: no answer in time", self._group_id)


def _committed(one: OffsetAndMetadata | ClientError | None) -> OffsetAndMetadata | None:
    return one if isinstance(one, OffsetAndMetadata) else None
