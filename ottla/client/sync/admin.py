"""The blocking admin client."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, Unpack

from ottla.client import admin as asyncio_admin
from ottla.client.settings import ConnectionSettings
from ottla.client.sync.admin_groups import AdminGroups
from ottla.client.sync.admin_operations import AdminOperations
from ottla.client.sync.admin_transactions import AdminTransactions
from ottla.client.sync.loop_thread import LoopThread
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


class Admin(AdminOperations, AdminGroups, AdminTransactions):
    """As `ottla.client.Admin`, whose settings and meanings it shares; may be used by several threads at once."""

    def __init__(self, **settings: Unpack[ConnectionSettings]) -> None:
        """Connects; raises ConfigError for a wrong setting, ClientError when no bootstrap server answers."""
        self._admin = asyncio_admin.Admin(**settings)
        self._thread = LoopThread.shared()
        self._thread.run(self._admin.start())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. May be called again."""
        self._thread.run(self._admin.close())

    def describe_cluster(self) -> ClusterDescription:
        """The cluster's id, controller and nodes."""
        return self._thread.run(self._admin.describe_cluster())

    def list_topics(self, *, include_internal: bool = False) -> list[TopicListing]:
        """Every topic, by name."""
        return self._thread.run(self._admin.list_topics(include_internal=include_internal))

    def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicDescription]:
        """Partitions, leaders and replicas of these topics, or of all."""
        return self._thread.run(self._admin.describe_topics(names))

    def describe_topic(self, name: str) -> TopicDescription:
        """Partitions, leaders and replicas of one topic."""
        return self._thread.run(self._admin.describe_topic(name))

    def create_topics(
        self, topics: Iterable[NewTopic], *, timeout_ms: int = 30_000, validate_only: bool = False
    ) -> dict[str, CreatedTopic]:
        """Create topics, or only check whether it could be done."""
        return self._thread.run(self._admin.create_topics(topics, timeout_ms=timeout_ms, validate_only=validate_only))

    def create_topic(
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
        return self._thread.run(
            self._admin.create_topic(
                name, num_partitions, replication_factor, configs, timeout_ms=timeout_ms, validate_only=validate_only
            )
        )

    def delete_topics(self, names: Iterable[str], *, timeout_ms: int = 30_000) -> None:
        """Delete topics with all their records."""
        self._thread.run(self._admin.delete_topics(names, timeout_ms=timeout_ms))

    def delete_topic(self, name: str, *, timeout_ms: int = 30_000) -> None:
        """Delete one topic with all its records."""
        self._thread.run(self._admin.delete_topic(name, timeout_ms=timeout_ms))

    def create_partitions(
        self, total_counts: Mapping[str, int], *, timeout_ms: int = 30_000, validate_only: bool = False
    ) -> None:
        """Give topics more partitions: the number that each is to have."""
        self._thread.run(
            self._admin.create_partitions(total_counts, timeout_ms=timeout_ms, validate_only=validate_only)
        )

    def delete_records(
        self, before_offsets: Mapping[TopicPartition, int], *, timeout_ms: int = 30_000
    ) -> dict[TopicPartition, int]:
        """Delete the records before an offset; the new log start offsets."""
        return self._thread.run(self._admin.delete_records(before_offsets, timeout_ms=timeout_ms))

    def describe_configs(
        self, resources: Iterable[ConfigResource], *, include_documentation: bool = False
    ) -> dict[ConfigResource, dict[str, ConfigEntry]]:
        """The configs of topics and brokers, by key."""
        return self._thread.run(self._admin.describe_configs(resources, include_documentation=include_documentation))

    def alter_configs(
        self, changes: Mapping[ConfigResource, Mapping[str, str | None]], *, validate_only: bool = False
    ) -> None:
        """Set the named keys, or with None put them back to their defaults."""
        self._thread.run(self._admin.alter_configs(changes, validate_only=validate_only))
