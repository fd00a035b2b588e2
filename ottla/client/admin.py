"""The asyncio admin client: topics, configs, the cluster; what concerns nodes, groups and transactions it inherits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

from ottla.client.admin_groups import AdminGroups
from ottla.client.admin_operations import AdminOperations
from ottla.client.admin_transactions import AdminTransactions
from ottla.client.backoff import Backoff
from ottla.client.config import ConnectionConfig, configured
from ottla.client.connect import open_transport
from ottla.client.coordinators import Coordinators
from ottla.client.errors import NOT_STARTED, ClientClosed, ClientError, ErrorCode, PartialFailure
from ottla.client.forks import check_not_forked, pid
from ottla.client.settings import ConnectionSettings
from ottla.client.transport import ConfigChange, Transport
from ottla.client.types import (
    ClusterDescription,
    ConfigEntry,
    ConfigResource,
    CreatedTopic,
    NewTopic,
    TopicDescription,
    TopicListing,
    TopicPartition,
)

Item = TypeVar("Item")
T = TypeVar("T")


class Admin(AdminOperations, AdminGroups, AdminTransactions):
    """Creates, changes and describes.

        async with Admin(bootstrap_servers="localhost:10092") as admin:
            await admin.create_topic("orders", num_partitions=6)

    A call about several items (plural name) raises `PartialFailure` when some of them fail; the others are done. Calls
    are repeated for `api_timeout_ms` while no node can be reached; what was refused is not repeated.
    """

    def __init__(self, *, transport: Transport | None = None, **settings: Unpack[ConnectionSettings]) -> None:
        """Connects to nothing yet; raises ConfigError for a wrong setting (see `config.ConnectionConfig`)."""
        self._config = configured(ConnectionConfig, settings)
        self._given_transport = transport
        self._backoff = Backoff(self._config.retry_backoff_ms, self._config.retry_backoff_max_ms)
        self._pid = pid()
        self._state = "new"

    async def start(self) -> Self:
        """Connect; raises ClientError when no bootstrap server answers. `async with` does it."""
        if self._state != "new":
            raise ClientClosed("an admin client starts once: make a new one")
        self._transport = self._given_transport or open_transport(self._config)
        self._coordinators = Coordinators(self._transport, self._config)
        try:
            await self._transport.open()
        except BaseException:
            await self._transport.close()
            raise
        self._state = "open"
        return self

    async def close(self) -> None:
        """Close the connections. May be called again."""
        if self._state == "open" and self._pid == pid():
            self._state = "closed"
            await self._transport.close()
        self._state = "closed"

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def describe_cluster(self) -> ClusterDescription:
        """The cluster's id, controller and nodes."""
        return await self._retrying(lambda transport: transport.describe_cluster())

    async def list_topics(self, *, include_internal: bool = False) -> list[TopicListing]:
        """Every topic, by name."""
        topics = await self._retrying(lambda transport: transport.list_topics(include_internal=include_internal))
        return sorted(topics, key=lambda topic: topic.name)

    async def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicDescription]:
        """Partitions, leaders and replicas of these topics, or of all."""
        wanted = None if names is None else list(names)
        descriptions, errors = await self._retrying(
            lambda transport: transport.describe_topics(wanted, allow_auto_create=False)
        )
        if errors:
            raise PartialFailure(errors, {topic.name: topic for topic in descriptions})
        return descriptions

    async def describe_topic(self, name: str) -> TopicDescription:
        """Partitions, leaders and replicas of one topic."""
        descriptions = await _single(self.describe_topics([name]))
        return descriptions[0]

    async def create_topics(
        self, topics: Iterable[NewTopic], *, timeout_ms: int = 30_000, validate_only: bool = False
    ) -> dict[str, CreatedTopic]:
        """Create topics, or with `validate_only` only check whether it could be done."""
        wanted = list(topics)
        return _results(
            await self._retrying(
                lambda transport: transport.create_topics(wanted, timeout_ms=timeout_ms, validate_only=validate_only)
            )
        )

    async def create_topic(
        self,
        name: str,
        num_partitions: int | None = None,
        replication_factor: int | None = None,
        configs: Mapping[str, str] | None = None,
        *,
        timeout_ms: int = 30_000,
        validate_only: bool = False,
    ) -> CreatedTopic:
        """Create one topic. Numbers left out are the cluster's defaults."""
        topic = NewTopic(name, num_partitions, replication_factor, configs or {})
        created = await _single(self.create_topics([topic], timeout_ms=timeout_ms, validate_only=validate_only))
        return created[name]

    async def delete_topics(self, names: Iterable[str], *, timeout_ms: int = 30_000) -> None:
        """Delete topics with all their records."""
        wanted = list(names)
        _raise_failures(await self._retrying(lambda transport: transport.delete_topics(wanted, timeout_ms=timeout_ms)))

    async def delete_topic(self, name: str, *, timeout_ms: int = 30_000) -> None:
        """Delete one topic with all its records."""
        await _single(self.delete_topics([name], timeout_ms=timeout_ms))

    async def create_partitions(
        self, total_counts: Mapping[str, int], *, timeout_ms: int = 30_000, validate_only: bool = False
    ) -> None:
        """Give topics more partitions: the number that each is to have."""
        _raise_failures(
            await self._retrying(
                lambda transport: transport.create_partitions(
                    total_counts, timeout_ms=timeout_ms, validate_only=validate_only
                )
            )
        )

    async def delete_records(
        self, before_offsets: Mapping[TopicPartition, int], *, timeout_ms: int = 30_000
    ) -> dict[TopicPartition, int]:
        """Delete the records before an offset (-1: before the high watermark); the new log start offsets."""
        topics = await self.describe_topics({partition.topic for partition in before_offsets})
        leaders = {
            TopicPartition(topic.name, it.partition): it.leader_id for topic in topics for it in topic.partitions
        }
        by_node: dict[int, dict[TopicPartition, int]] = {}
        results: dict[TopicPartition, int | ClientError] = {}
        for partition, offset in before_offsets.items():
            if leaders.get(partition, -1) >= 0:
                by_node.setdefault(leaders[partition], {})[partition] = offset
            else:
                code = ErrorCode.LEADER_NOT_AVAILABLE if partition in leaders else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                results[partition] = ClientError(code, topic=partition.topic, partition=partition.partition)
        for node_id, offsets in by_node.items():
            results |= await self._usable().delete_records(node_id, offsets, timeout_ms=timeout_ms)
        return _results(results)

    async def describe_configs(
        self, resources: Iterable[ConfigResource], *, include_documentation: bool = False
    ) -> dict[ConfigResource, dict[str, ConfigEntry]]:
        """The configs of topics and brokers, by key."""
        wanted = list(resources)
        return _results(
            await self._retrying(
                lambda transport: transport.describe_configs(wanted, include_documentation=include_documentation)
            )
        )

    async def alter_configs(
        self, changes: Mapping[ConfigResource, Mapping[str, str | None]], *, validate_only: bool = False
    ) -> None:
        """Set the named keys, or with None put them back to their defaults; other keys stay as they are."""
        wanted: dict[ConfigResource, Sequence[ConfigChange]] = {
            resource: [ConfigChange(key, value) for key, value in keys.items()] for resource, keys in changes.items()
        }
        _raise_failures(
            await self._retrying(lambda transport: transport.alter_configs(wanted, validate_only=validate_only))
        )

    def _usable(self) -> Transport:
        check_not_forked(self._pid)
        if self._state != "open":
            state = NOT_STARTED if self._state == "new" else "closed"
            raise ClientClosed(f"the admin client is {state}")
        return self._transport

    async def _retrying(self, call: Callable[[Transport], Awaitable[T]]) -> T:
        """Repeat while no node answers. What was done before an answer got lost shows as e.g. TOPIC_ALREADY_EXISTS."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.api_timeout_ms / 1000
        attempts = 0
        while True:
            try:
                return await call(self._usable())
            except ClientError as error:
                attempts += 1
                delay = self._backoff.delay_ms(attempts) / 1000
                if not error.retriable or loop.time() + delay > deadline:
                    raise
            await asyncio.sleep(delay)


def _results(outcomes: Mapping[Item, T | ClientError]) -> dict[Item, T]:
    """What succeeded; raises PartialFailure when something did not."""
    errors = {item: outcome for item, outcome in outcomes.items() if isinstance(outcome, ClientError)}
    results = {item: outcome for item, outcome in outcomes.items() if not isinstance(outcome, ClientError)}
    if errors:
        raise PartialFailure(errors, results)
    return results


def _raise_failures(outcomes: Mapping[Item, ClientError | None]) -> None:
    errors = {item: error for item, error in outcomes.items() if error is not None}
    if errors:
        raise PartialFailure(errors, {item: None for item in outcomes if item not in errors})


async def _single(call: Awaitable[T]) -> T:
    """A call about one item raises that item's own error."""
    try:
        return await call
    except PartialFailure as failure:
        error = next(iter(failure.errors.values()))
    raise error
