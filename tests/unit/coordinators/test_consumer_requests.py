"""Which ConsumerGroupHeartbeat requests are refused, and that nothing counts before it is in the log (KIP-848)."""

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, Member, jobs, lists, settle
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID

ALL = jobs(*range(8))


@pytest.fixture
def cluster() -> ConsumerCluster:
    return ConsumerCluster()


# --- what a request must say


@pytest.mark.parametrize(
    ("member_id", "epoch", "fields"),
    [
        ("a", 0, {"subscribed_topic_names": ["jobs"], "owned": {}}),
        ("a", 0, {"rebalance_timeout_ms": 1, "owned": {}}),
        ("a", 0, {"rebalance_timeout_ms": 1, "subscribed_topic_names": ["jobs"]}),
        ("a", 0, {"rebalance_timeout_ms": 1, "subscribed_topic_names": ["jobs"], "owned": jobs(1)}),
        ("", 1, {}),
        ("a", -2, {}),
        ("a", -3, {}),
        ("a", 1, {"instance_id": ""}),
        ("a", 1, {"rack_id": " "}),
        ("a" * 40_000, 1, {}),
    ],
)
def test_request_that_says_too_little_or_nonsense(
    cluster: ConsumerCluster, member_id: str, epoch: int, fields: dict[str, Any]
) -> None:
    answer = cluster.beat(member_id, epoch, **fields)
    assert answer.error_code == ErrorCode.INVALID_REQUEST
    assert answer.error_message
    assert cluster.log.log_end_offset == 0


def test_empty_group_id_is_invalid(cluster: ConsumerCluster) -> None:
    assert cluster.enter("a", group="").error_code == ErrorCode.INVALID_REQUEST


def test_assignor_that_does_not_exist_is_refused(cluster: ConsumerCluster) -> None:
    answer = cluster.enter("a", server_assignor="mine")
    assert answer.error_code == ErrorCode.UNSUPPORTED_ASSIGNOR
    assert "uniform, range" in answer.error_message


def test_members_choose_the_assignor(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a"), Member(cluster, "b")
    settle(a, b)
    a.beat(server_assignor="range")
    settle(a, b)
    assert cluster.described().assignor_name == "range"
    assert {frozenset(a.owned[TOPIC_ID]), frozenset(b.owned[TOPIC_ID])} == {frozenset(range(4)), frozenset(range(4, 8))}


def test_full_group_takes_nobody_but_its_own() -> None:
    cluster = ConsumerCluster(consumer_max_size=1)
    cluster.enter("a", instance_id="i")
    answer = cluster.enter("b")
    assert answer.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert cluster.enter("a", instance_id="i").error_code == 0
    cluster.beat("a", -2, instance_id="i")
    assert cluster.enter("c", instance_id="i").error_code == 0


# --- the log


def test_everything_is_found_again_by_the_next_coordinator(cluster: ConsumerCluster) -> None:
    members = [Member(cluster, name) for name in "abc"]
    settle(*members)
    members[0].beat(subscribed_topic_names=["jobs", "other"])
    before = vars(cluster.consumer_group()).copy()
    cluster.restart()
    after = vars(cluster.consumer_group()).copy()
    before.pop("metadata_checked")
    assert after.pop("metadata_checked") is False
    assert before.pop("changed_ms") is not None
    assert after.pop("changed_ms") is None
    assert after == before


def test_failed_append_takes_everything_back(cluster: ConsumerCluster) -> None:
    a, b = Member(cluster, "a"), Member(cluster, "b")
    settle(a, b)
    before = vars(cluster.consumer_group()).copy()
    cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)] * 2
    answer = cluster.enter("c")
    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert cluster.beat("a", -1).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    after = vars(cluster.consumer_group()).copy()
    before.pop("metadata_checked")
    after.pop("metadata_checked")
    assert after == before
    settle(a, b)


def test_group_that_could_not_be_written_does_not_exist(cluster: ConsumerCluster) -> None:
    cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]
    cluster.enter("a")
    assert cluster.beat("a", 1).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert cluster.enter("a").member_epoch == 1


def test_answer_waits_until_its_records_are_committed() -> None:
    cluster = ConsumerCluster(auto_commit=False)
    answer = cluster.send(
        ConsumerGroupHeartbeatRequest(
            group_id="g",
            member_id="a",
            member_epoch=0,
            rebalance_timeout_ms=1000,
            subscribed_topic_names=["jobs"],
            topic_partitions=lists({}),
        )
    )
    cluster.run()
    assert not answer.arrived
    cluster.log.commit()
    assert answer.take().member_epoch == 1
