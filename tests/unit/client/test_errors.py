"""Errors tell code, place and whether to try again, and survive a copy to another process."""

import pickle

import pytest

from ottla.client import ClientClosed, ClientError, ClientForked, DeliveryTimeout, ErrorCode, PartialFailure


def test_the_text_tells_where_and_what() -> None:
    error = ClientError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "moved", topic="t", partition=3)
    assert str(error) == "t-3: NOT_LEADER_OR_FOLLOWER: moved"
    assert error.retriable
    assert str(ClientError(ErrorCode.INVALID_CONFIG)) == "INVALID_CONFIG"


def test_an_error_can_be_placed() -> None:
    error = DeliveryTimeout(ErrorCode.REQUEST_TIMED_OUT, "late").at("t", 1)
    assert isinstance(error, DeliveryTimeout)
    assert (error.topic, error.partition, str(error)) == ("t", 1, "t-1: REQUEST_TIMED_OUT: late")


@pytest.mark.parametrize(
    "error",
    [
        ClientError(ErrorCode.INVALID_CONFIG, "x", topic="t"),
        ClientClosed(),
        ClientForked(1, 2),
        PartialFailure({"t": ClientError(ErrorCode.INVALID_TOPIC_EXCEPTION, topic="t")}, {"u": None}),
    ],
)
def test_errors_can_be_pickled(error: ClientError) -> None:
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert (str(copied), copied.code, copied.retriable) == (str(error), error.code, error.retriable)


def test_a_partial_failure_tells_each_item() -> None:
    error = PartialFailure(
        {name: ClientError(ErrorCode.TOPIC_ALREADY_EXISTS, topic=name) for name in ("a", "b")}, {"c": None}
    )
    assert str(error) == "a: TOPIC_ALREADY_EXISTS; b: TOPIC_ALREADY_EXISTS"
    assert (error.code, set(error.errors), set(error.results)) == (
        ErrorCode.TOPIC_ALREADY_EXISTS,
        {"a", "b"},
        {"c"},
    )
    groups = PartialFailure({"g": ClientError(ErrorCode.NON_EMPTY_GROUP, "stop its consumers first")}, {})
    assert str(groups) == "g: NON_EMPTY_GROUP: stop its consumers first"
