"""List, describe and delete groups."""

from typing import Any

import pytest

from ottla.coordinators.groups.joining import Caller
from ottla.core.error_codes import ErrorCode
from ottla.protocol.messages.delete_groups_request import DeleteGroupsRequest
from ottla.protocol.messages.describe_groups_request import DescribeGroupsRequest
from ottla.protocol.messages.list_groups_request import ListGroupsRequest
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.group_cluster import Cluster


def list_groups(cluster: Cluster, states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> Any:
    answer = Answer()
    request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
    cluster.coordinator.list_groups(request, Caller("client", "/127.0.0.1", 5), answer)
    cluster.run()
    return answer.take()


def describe(cluster: Cluster, *groups: str, version: int = 6) -> list[Any]:
    answer = Answer()
    cluster.coordinator.describe_groups(
        DescribeGroupsRequest(groups=list(groups)), Caller("client", "/127.0.0.1", version), answer
    )
    cluster.run()
    found: list[Any] = answer.take().groups
    return found


def delete(cluster: Cluster, *groups: str) -> dict[str, int]:
    answer = Answer()
    cluster.coordinator.delete_groups(
        DeleteGroupsRequest(groups_names=list(groups)), Caller("client", "/127.0.0.1", 2), answer
    )
    cluster.run()
    return {result.group_id: result.error_code for result in answer.take().results}


def three_groups() -> Cluster:
    cluster = Cluster()
    cluster.stable(1, group="working")
    cluster.join_new(group="beginning")
    cluster.commit({0: 1}, group="simple")
    cluster.run()
    return cluster


@pytest.mark.parametrize(
    ("states", "types", "found"),
    [
        ((), (), {"working", "beginning", "simple"}),
        (("stable",), (), {"working"}),
        (("Empty", "CompletingRebalance"), (), {"simple", "beginning"}),
        (("Dead",), (), set()),
        ((), ("Classic",), {"working", "beginning", "simple"}),
        ((), ("consumer",), set()),
        (("Stable",), ("consumer", "classic"), {"working"}),
    ],
)
def test_groups_are_listed_by_state_and_type(states: tuple[str, ...], types: tuple[str, ...], found: set[str]) -> None:
    assert {group.group_id for group in list_groups(three_groups(), states, types).groups} == found


def test_a_listed_group_says_what_it_is() -> None:
    groups = {group.group_id: group for group in list_groups(three_groups()).groups}
    working = groups["working"]
    assert (working.protocol_type, working.group_state, working.group_type) == ("consumer", "Stable", "Classic")
    assert groups["simple"].protocol_type == ""


def test_a_node_that_coordinates_nothing_lists_nothing() -> None:
    cluster = Cluster()
    cluster.coordinator.resign(0)
    answer = list_groups(cluster)
    assert (answer.error_code, answer.groups) == (ErrorCode.NONE, [])


def test_a_stable_group_shows_its_members() -> None:
    cluster = Cluster()
    (member,), _ = cluster.stable(1, metadata=b"topics")
    (group,) = describe(cluster, "g")
    assert (group.error_code, group.group_state, group.protocol_data) == (ErrorCode.NONE, "Stable", "range")
    (shown,) = group.members
    assert (shown.member_id, shown.client_id, shown.client_host) == (member, "client", "/127.0.0.1")
    assert (shown.member_metadata, shown.member_assignment) == (b"topics", member.encode())
    assert group.authorized_operations == -2147483648


def test_a_rebalancing_group_shows_members_without_their_assignment() -> None:
    cluster = Cluster()
    cluster.stable(1, metadata=b"topics")
    cluster.join_new()
    (group,) = describe(cluster, "g")
    assert (group.group_state, group.protocol_data) == ("PreparingRebalance", "")
    assert {(shown.member_metadata, shown.member_assignment) for shown in group.members} == {(b"", b"")}


@pytest.mark.parametrize(("version", "code"), [(5, ErrorCode.NONE), (6, ErrorCode.GROUP_ID_NOT_FOUND)])
def test_an_unknown_group_is_dead(version: int, code: ErrorCode) -> None:
    (group,) = describe(Cluster(), "nobody", version=version)
    assert (group.group_id, group.group_state, group.error_code) == ("nobody", "Dead", code)


def test_several_groups_are_described_in_the_order_of_the_request() -> None:
    groups = describe(three_groups(), "simple", "nobody", "working")
    assert [group.group_state for group in groups] == ["Empty", "Dead", "Stable"]


def test_only_empty_groups_are_deleted() -> None:
    cluster = three_groups()
    assert delete(cluster, "working", "simple", "nobody", "beginning") == {
        "working": ErrorCode.NON_EMPTY_GROUP,
        "simple": ErrorCode.NONE,
        "nobody": ErrorCode.GROUP_ID_NOT_FOUND,
        "beginning": ErrorCode.NON_EMPTY_GROUP,
    }
    assert cluster.fetch("simple") == {}


def test_a_deleted_group_stays_deleted() -> None:
    cluster = Cluster()
    (member,), generation = cluster.stable(1)
    cluster.commit({0: 1}, member_id=member, generation=generation)
    cluster.run()
    cluster.leave(member)
    assert delete(cluster, "g") == {"g": ErrorCode.NONE}
    cluster.restart()
    assert list_groups(cluster).groups == []
    assert cluster.fetch() == {}
    assert cluster.join_new()[1].take().generation_id == 1
