"""Which function answers which request.

Produce, Fetch and ApiVersions are not here: the doors treat them for themselves (the first two are the hot path, the
third states what a door speaks). A module is imported when its first request comes, so that a node holds the messages
only of what it has met.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

from ottla.protocol.apis import ApiKey

Handler = Callable[..., Awaitable[Any]]
"""`async def handler(broker, request, context) -> response`, with the generated messages of the protocol."""

HANDLERS: Final[dict[ApiKey, str]] = {
    ApiKey.METADATA: "metadata.metadata",
    ApiKey.CREATE_TOPICS: "topics.create_topics",
    ApiKey.DELETE_TOPICS: "topics.delete_topics",
    ApiKey.CREATE_PARTITIONS: "topics.create_partitions",
    ApiKey.DELETE_RECORDS: "delete_records.delete_records",
    ApiKey.DESCRIBE_CONFIGS: "configs.describe_configs",
    ApiKey.ALTER_CONFIGS: "alter_configs.alter_configs",
    ApiKey.INCREMENTAL_ALTER_CONFIGS: "alter_configs.incremental_alter_configs",
    ApiKey.LIST_CONFIG_RESOURCES: "configs.list_config_resources",
    ApiKey.DESCRIBE_CLUSTER: "cluster.describe_cluster",
    ApiKey.UNREGISTER_BROKER: "cluster.unregister_broker",
    ApiKey.DESCRIBE_QUORUM: "describe_quorum.describe_quorum",
    ApiKey.ADD_RAFT_VOTER: "quorum_voters.add_raft_voter",
    ApiKey.REMOVE_RAFT_VOTER: "quorum_voters.remove_raft_voter",
    ApiKey.UPDATE_FEATURES: "features.update_features",
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: "reassignments.alter_partition_reassignments",
    ApiKey.LIST_PARTITION_REASSIGNMENTS: "reassignments.list_partition_reassignments",
    ApiKey.ELECT_LEADERS: "elections.elect_leaders",
    ApiKey.DESCRIBE_LOG_DIRS: "log_dirs.describe_log_dirs",
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: "topic_partitions.describe_topic_partitions",
    ApiKey.INIT_PRODUCER_ID: "producer_ids.init_producer_id",
    ApiKey.LIST_OFFSETS: "list_offsets.list_offsets",
    ApiKey.OFFSET_FOR_LEADER_EPOCH: "offset_for_leader_epoch.offset_for_leader_epoch",
    ApiKey.FIND_COORDINATOR: "find_coordinator.find_coordinator",
    ApiKey.JOIN_GROUP: "groups.join_group",
    ApiKey.SYNC_GROUP: "groups.sync_group",
    ApiKey.HEARTBEAT: "groups.heartbeat",
    ApiKey.LEAVE_GROUP: "groups.leave_group",
    ApiKey.OFFSET_COMMIT: "groups.offset_commit",
    ApiKey.OFFSET_FETCH: "groups.offset_fetch",
    ApiKey.OFFSET_DELETE: "groups.offset_delete",
    ApiKey.LIST_GROUPS: "groups.list_groups",
    ApiKey.DESCRIBE_GROUPS: "groups.describe_groups",
    ApiKey.DELETE_GROUPS: "groups.delete_groups",
    ApiKey.ADD_PARTITIONS_TO_TXN: "transactions.handlers.add_partitions_to_txn",
    ApiKey.ADD_OFFSETS_TO_TXN: "transactions.handlers.add_offsets_to_txn",
    ApiKey.END_TXN: "transactions.handlers.end_txn",
    ApiKey.TXN_OFFSET_COMMIT: "groups.txn_offset_commit",
    ApiKey.WRITE_TXN_MARKERS: "transactions.marker_writes.write_txn_markers",
    ApiKey.DESCRIBE_PRODUCERS: "transactions.describe_producers.describe_producers",
    ApiKey.DESCRIBE_TRANSACTIONS: "transactions.handlers.describe_transactions",
    ApiKey.LIST_TRANSACTIONS: "transactions.handlers.list_transactions",
    ApiKey.CONSUMER_GROUP_HEARTBEAT: "groups.consumer_group_heartbeat",
    ApiKey.CONSUMER_GROUP_DESCRIBE: "groups.consumer_group_describe",
}

BETWEEN_NODES: Final[dict[ApiKey, str]] = {
    ApiKey.ALTER_PARTITION: "control.isr.alter_partition",
    ApiKey.ALLOCATE_PRODUCER_IDS: "producer_ids.allocate_producer_ids",
}
"""What only nodes ask each other for: no door serves these."""


TAKERS: Final[dict[ApiKey, str]] = {
    ApiKey.OFFSET_COMMIT: "groups.take_offset_commit",
    ApiKey.CONSUMER_GROUP_HEARTBEAT: "groups.take_consumer_group_heartbeat",
}
"""The same for doors that can do without a task: these answer by a callback, and the order in which requests come is
kept without waiting for the answers. A commit waits for a sync, and a client may have many under way; heartbeats come
from every member all the time.
"""

ASKED: Final[dict[int, str]] = {
    ApiKey.ADD_PARTITIONS_TO_TXN: "transactions.handlers.add_partitions_of_leader",
    ApiKey.WRITE_TXN_MARKERS: "transactions.marker_writes.write_markers_of_coordinator",
}
"""What nodes ask each other for by callback: `asked_of_node(api_key)(broker, api_version, request, done)`, which raises
ApiError only before `done` has got the response. In versions for which the doors have another answer, or none.
"""

Taker = Callable[..., None]
"""`taker(broker, request, context, done)`: `done` gets the response, once; the context is read at once."""


@cache
def taker(api_key: ApiKey) -> Taker:
    """The function; KeyError when this type of request has none."""
    found: Taker = _load(TAKERS[api_key])
    return found


@cache
def asked_of_node(api_key: ApiKey) -> Taker:
    """The function; KeyError when this is no matter between nodes."""
    found: Taker = _load(ASKED[api_key])
    return found


@cache
def handler(api_key: ApiKey) -> Handler:
    """The function; KeyError when nothing answers this type of request."""
    found: Handler = _load(HANDLERS.get(api_key) or BETWEEN_NODES[api_key])
    return found


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"ottla.broker.{module}"), name)
