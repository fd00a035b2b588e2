"""Kafka's errors as gRPC tells them."""

import grpc
import pytest

from ottla.core.errors import ErrorCode
from ottla.grpc_api.errors import detail, status_of


def test_no_error_has_no_detail() -> None:
    assert detail(ErrorCode.NONE) is None


def test_a_detail_tells_code_name_place_and_whether_to_try_again() -> None:
    found = detail(ErrorCode.NOT_LEADER_OR_FOLLOWER, None, "t", 3)
    assert found is not None
    assert (found.code, found.name, found.retriable) == (6, "NOT_LEADER_OR_FOLLOWER", True)
    assert (found.topic, found.partition, found.message) == ("t", 3, "this node does not lead the partition")


def test_a_code_that_nobody_knows_is_a_server_error() -> None:
    found = detail(12345)
    assert found is not None
    assert found.name == "UNKNOWN_SERVER_ERROR"


@pytest.mark.parametrize("code", [code for code in ErrorCode if code])
def test_every_error_has_a_status_and_what_may_pass_by_itself_is_not_the_callers_fault(code: ErrorCode) -> None:
    status = status_of(code)
    assert status is not grpc.StatusCode.OK
    if code.retriable:
        assert status is not grpc.StatusCode.INVALID_ARGUMENT
