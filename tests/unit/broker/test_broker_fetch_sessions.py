"""Fetch sessions (KIP-227)."""

import pytest

from ottla.broker.fetch_messages import FetchResponse
from ottla.broker.fetch_sessions import EVICTION_MS
from ottla.core.errors import ErrorCode
from tests.unit.broker.hot_path import HotPath, topic_id, wanted


@pytest.fixture
def broker() -> HotPath:
    return HotPath({"t": 3, "u": 1}, slots=2)


def told(response: FetchResponse) -> list[tuple[object, int]]:
    return [(partition.topic, partition.index) for partition in response.partitions]


def test_the_first_answer_names_all_partitions_and_a_session(broker: HotPath) -> None:
    response = broker.fetch_now([wanted("t", 0), wanted("t", 1)], session_epoch=0)
    assert response.session_id > 0
    assert told(response) == [("t", 0), ("t", 1)]


def test_an_incremental_answer_names_only_what_is_new(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", n) for n in range(3)], session_epoch=0).session_id
    assert told(broker.fetch_now([], session_id=session, session_epoch=1)) == []
    broker.append("t", 1)
    response = broker.fetch_now([], session_id=session, session_epoch=2)
    assert (told(response), response.session_id) == ([("t", 1)], session)
    moved = broker.fetch_now([wanted("t", 1, offset=1)], session_id=session, session_epoch=3)
    assert told(moved) == []


def test_a_moved_log_start_is_news(broker: HotPath) -> None:
    broker.append("t", 0)
    session = broker.fetch_now([wanted("t", 0, offset=1)], session_epoch=0).session_id
    broker.partition("t", 0).move_log_start(1)
    assert told(broker.fetch_now([], session_id=session, session_epoch=1)) == [("t", 0)]


def test_partitions_are_added_and_forgotten(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id
    response = broker.fetch_now([wanted("u")], session_id=session, session_epoch=1, forgotten=[("t", 0)])
    assert told(response) == [("u", 0)]
    broker.append("t", 0)
    assert told(broker.fetch_now([], session_id=session, session_epoch=2)) == []


def test_an_error_is_told_until_it_passes(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id
    partition = broker.partition("t", 0)
    partition.is_leader = False
    for epoch in (1, 2):
        response = broker.fetch_now([], session_id=session, session_epoch=epoch)
        assert [p.error for p in response.partitions] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    partition.is_leader = True
    response = broker.fetch_now([], session_id=session, session_epoch=3)
    assert [p.error for p in response.partitions] == [ErrorCode.NONE]


def test_the_incremental_fetch_waits_for_its_session(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", n) for n in range(3)], session_epoch=0).session_id
    responses, waiting = broker.start_fetch([], session_id=session, session_epoch=1, min_bytes=1, max_wait_ms=60_000)
    assert waiting is not None
    broker.append("t", 2)
    broker.clock.run_until(lambda: bool(responses))
    assert told(responses[0]) == [("t", 2)]


def test_served_partitions_go_to_the_end_of_the_queue(broker: HotPath) -> None:
    for index in range(3):
        broker.append("t", index, b"x" * 1000)
    session = broker.fetch_now([wanted("t", n) for n in range(3)], session_epoch=0, max_bytes=1000).session_id
    seen = [
        next(
            p.index
            for p in broker.fetch_now([], session_id=session, session_epoch=n, max_bytes=1000).partitions
            if p.size
        )
        for n in range(1, 4)
    ]
    assert seen == [1, 2, 0]


def test_unknown_sessions_and_wrong_epochs(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id
    assert broker.fetch_now([], session_id=session + 1, session_epoch=1).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert broker.fetch_now([], session_id=session, session_epoch=2).error == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert broker.fetch_now([], session_id=session, session_epoch=1).error == ErrorCode.NONE
    assert broker.fetch_now([], session_id=session, session_epoch=1).error == ErrorCode.INVALID_FETCH_SESSION_EPOCH


def test_a_session_does_not_change_from_names_to_ids(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id
    response = broker.fetch_now([wanted(topic_id("t"), 1)], session_id=session, session_epoch=1)
    assert response.error == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_the_final_epoch_ends_the_session(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id
    response = broker.fetch_now([wanted("t", 0)], session_id=session, session_epoch=-1)
    assert (response.session_id, told(response)) == (0, [("t", 0)])
    assert len(broker.sessions) == 0


def test_a_new_full_fetch_replaces_the_session(broker: HotPath) -> None:
    first = broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id
    second = broker.fetch_now([wanted("t", 0)], session_id=first, session_epoch=0).session_id
    assert second not in (0, first)
    assert len(broker.sessions) == 1


def test_a_session_without_partitions_ends(broker: HotPath) -> None:
    session = broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id
    response = broker.fetch_now([], session_id=session, session_epoch=1, forgotten=[("t", 0)])
    assert response.session_id == 0
    assert len(broker.sessions) == 0


def test_slots_are_bounded_and_idle_sessions_make_room(broker: HotPath) -> None:
    first, second, third = (broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id for _ in range(3))
    assert first and second
    assert third == 0
    broker.clock.run_for(EVICTION_MS)
    assert broker.fetch_now([], session_id=first, session_epoch=1).error == ErrorCode.NONE
    assert broker.fetch_now([wanted("t", 0)], session_epoch=0).session_id > 0
    assert broker.fetch_now([], session_id=second, session_epoch=1).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert broker.fetch_now([], session_id=first, session_epoch=2).error == ErrorCode.NONE
