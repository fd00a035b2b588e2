"""Requests about the cluster's brokers, replicas and quorum, on a broker that is its whole cluster."""

from typing import Any

import pytest

from ottla.broker.handlers import HANDLERS, handler
from ottla.controller.features import SUPPORTED_FEATURES
from ottla.controller.requests import BrokerRegistration
from ottla.core.error_codes import ErrorCode
from ottla.core.types import ZERO_UUID, NodeId, Uuid, format_uuid
from ottla.protocol.apis import VERSIONS, ApiKey, response_class
from ottla.protocol.messages import add_raft_voter_request as add
from ottla.protocol.messages import alter_partition_reassignments_request as alter
from ottla.protocol.messages import describe_quorum_request as quorum
from ottla.protocol.messages import elect_leaders_request as elect
from ottla.protocol.messages import list_partition_reassignments_request as listing
from ottla.protocol.messages import update_features_request as features
from ottla.protocol.messages.describe_cluster_request import DescribeClusterRequest
from ottla.protocol.messages.remove_raft_voter_request import RemoveRaftVoterRequest
from ottla.protocol.messages.unregister_broker_request import UnregisterBrokerRequest
from tests.unit.broker.one_broker import CLUSTER, NODE, context, start_broker
from tests.unit.broker.test_admin_handlers import create

OTHER = NodeId(7)


async def ask(broker: Any, key: ApiKey, request: Any, version: int | None = None) -> Any:
    """The answer, after a way over the wire."""
    version = VERSIONS[key][1] if version is None else version
    answer = await broker.handle(key, request, context(version))
    return response_class(key).decode(answer.encode(version), version)[0]


async def register(broker: Any, node: NodeId = OTHER) -> None:
    """A fenced broker, which never says that it is ready."""
    await broker.controller.local.register_broker(
        BrokerRegistration(
            broker_id=node, incarnation_id=Uuid(b"x" * 16), listeners={}, rack="r7", features=SUPPORTED_FEATURES
        )
    )


def test_every_handler_exists() -> None:
    for key in HANDLERS:
        assert callable(handler(key)), key


async def test_reassignments_begin_are_listed_and_end() -> None:
    broker = await start_broker()
    await create(broker, "t", partitions=2)
    await register(broker)
    to_other = alter.ReassignablePartition(partition_index=0, replicas=[OTHER, NODE])
    unknown = alter.ReassignablePartition(partition_index=9, replicas=[NODE])
    request = alter.AlterPartitionReassignmentsRequest(
        topics=[alter.ReassignableTopic(name="t", partitions=[to_other, unknown])]
    )
    answer = await ask(broker, ApiKey.ALTER_PARTITION_REASSIGNMENTS, request)
    assert (answer.error_code, answer.allow_replication_factor_change) == (0, True)
    [topic] = answer.responses
    assert [(p.partition_index, p.error_code) for p in topic.partitions] == [
        (0, 0),
        (9, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    for topics in (None, [listing.ListPartitionReassignmentsTopics(name="t", partition_indexes=[0, 1])]):
        answer = await ask(
            broker, ApiKey.LIST_PARTITION_REASSIGNMENTS, listing.ListPartitionReassignmentsRequest(topics=topics)
        )
        [topic] = answer.topics
        [moving] = topic.partitions
        assert (moving.replicas, moving.adding_replicas, moving.removing_replicas) == ([OTHER, NODE], [OTHER], [])
    to_other.replicas = None
    request.topics[0].partitions = [to_other]
    answer = await ask(broker, ApiKey.ALTER_PARTITION_REASSIGNMENTS, request, 0)
    assert answer.responses[0].partitions[0].error_code == 0
    answer = await ask(broker, ApiKey.ALTER_PARTITION_REASSIGNMENTS, request)
    assert answer.responses[0].partitions[0].error_code == ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
    answer = await ask(
        broker, ApiKey.LIST_PARTITION_REASSIGNMENTS, listing.ListPartitionReassignmentsRequest(topics=None)
    )
    assert answer.topics == []


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_elections_tell_of_each_partition_that_was_named(version: int) -> None:
    broker = await start_broker()
    await create(broker, "t", partitions=2)
    named = [elect.TopicPartitions(topic="t", partitions=[0, 5])]
    answer = await ask(broker, ApiKey.ELECT_LEADERS, elect.ElectLeadersRequest(topic_partitions=named), version)
    [topic] = answer.replica_election_results
    assert [(p.partition_id, p.error_code) for p in topic.partition_result] == [
        (0, ErrorCode.ELECTION_NOT_NEEDED),
        (5, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    answer = await ask(broker, ApiKey.ELECT_LEADERS, elect.ElectLeadersRequest(topic_partitions=None), version)
    assert (answer.error_code, answer.replica_election_results) == (0, [])


async def test_an_unknown_kind_of_election_is_refused() -> None:
    broker = await start_broker()
    answer = await ask(broker, ApiKey.ELECT_LEADERS, elect.ElectLeadersRequest(election_type=3, topic_partitions=None))
    assert answer.error_code == ErrorCode.INVALID_REQUEST


async def test_features_are_changed_together_or_not_at_all() -> None:
    broker = await start_broker()
    assert (broker.image.features["metadata.version"], broker.image.features["transaction.version"]) == (30, 2)

    def request(*updates: tuple[str, int], dry: bool = False) -> features.UpdateFeaturesRequest:
        keys = [
            features.FeatureUpdateKey(feature=name, max_version_level=level, allow_downgrade=True, upgrade_type=2)
            for name, level in updates
        ]
        return features.UpdateFeaturesRequest(feature_updates=keys, validate_only=dry)

    assert (await ask(broker, ApiKey.UPDATE_FEATURES, request(("transaction.version", 1), dry=True))).error_code == 0
    assert broker.image.features["transaction.version"] == 2
    answer = await ask(broker, ApiKey.UPDATE_FEATURES, request(("transaction.version", 1), ("nope", 1)))
    assert answer.error_code == ErrorCode.INVALID_UPDATE_VERSION
    answer = await ask(broker, ApiKey.UPDATE_FEATURES, request(("transaction.version", 1), ("nope", 1)), 1)
    assert answer.error_code == 0
    assert {one.error_code for one in answer.results} == {ErrorCode.INVALID_UPDATE_VERSION}
    answer = await ask(broker, ApiKey.UPDATE_FEATURES, request(("transaction.version", 1)), 0)
    assert [(one.feature, one.error_code) for one in answer.results] == [("transaction.version", 0)]
    assert broker.image.features["transaction.version"] == 1


async def test_a_fenced_broker_is_shown_to_who_asks_and_can_be_unregistered() -> None:
    broker = await start_broker()
    await register(broker)

    async def shown(version: int, **fields: Any) -> list[tuple[int, str | None, bool]]:
        answer = await ask(broker, ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest(**fields), version)
        return [(one.broker_id, one.rack, one.is_fenced) for one in answer.brokers]

    assert await shown(2) == [(NODE, "r1", False)]
    assert await shown(2, include_fenced_brokers=True) == [(NODE, "r1", False)]  # the other has no such listener
    assert OTHER in broker.image.brokers
    unregister = UnregisterBrokerRequest(broker_id=OTHER)
    assert (await ask(broker, ApiKey.UNREGISTER_BROKER, unregister)).error_code == 0
    assert OTHER not in broker.image.brokers
    answer = await ask(broker, ApiKey.UNREGISTER_BROKER, unregister)
    assert answer.error_code == ErrorCode.BROKER_ID_NOT_REGISTERED
    assert str(OTHER) in answer.error_message


async def test_the_quorum_is_described() -> None:
    broker = await start_broker()

    def request(topic: str) -> quorum.DescribeQuorumRequest:
        partitions = [quorum.PartitionData(partition_index=0)]
        return quorum.DescribeQuorumRequest(topics=[quorum.TopicData(topic_name=topic, partitions=partitions)])

    for version in (0, 1, 2):
        answer = await ask(broker, ApiKey.DESCRIBE_QUORUM, request("__cluster_metadata"), version)
        [partition] = answer.topics[0].partitions
        assert (partition.error_code, partition.leader_id, partition.observers) == (0, NODE, [])
        [voter] = partition.current_voters
        assert voter.replica_id == NODE
        assert voter.log_end_offset >= partition.high_watermark > 0
    answer = await ask(broker, ApiKey.DESCRIBE_QUORUM, request("t"))
    assert answer.topics[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_voters_are_added_and_removed_with_reasons() -> None:
    broker = await start_broker()

    def adding(node: int = OTHER, *listeners: add.Listener, cluster: str | None = None) -> add.AddRaftVoterRequest:
        return add.AddRaftVoterRequest(cluster_id=cluster, voter_id=node, timeout_ms=100, listeners=list(listeners))

    at = add.Listener(name="INTERNAL", host="::1", port=1)
    for request, error in (
        (adding(OTHER, at, cluster="other"), ErrorCode.INCONSISTENT_CLUSTER_ID),
        (adding(OTHER), ErrorCode.INVALID_REQUEST),
        (adding(NODE, at), ErrorCode.DUPLICATE_VOTER),
        (adding(OTHER, at, cluster=format_uuid(CLUSTER)), ErrorCode.REQUEST_TIMED_OUT),  # nobody is there
        (adding(OTHER, at), ErrorCode.REQUEST_TIMED_OUT),  # and nothing of the attempt is left
    ):
        answer = await ask(broker, ApiKey.ADD_RAFT_VOTER, request)
        assert answer.error_code == error
        assert answer.error_message
    assert not broker.controller.local.quorum.membership.learners
    for node, error in ((OTHER, ErrorCode.VOTER_NOT_FOUND), (NODE, ErrorCode.REQUEST_TIMED_OUT)):
        removal = RemoveRaftVoterRequest(cluster_id=None, voter_id=node, voter_directory_id=ZERO_UUID)
        answer = await ask(broker, ApiKey.REMOVE_RAFT_VOTER, removal)
        assert answer.error_code == error, answer.error_message
