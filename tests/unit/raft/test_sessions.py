import pytest

from ottla.core.errors import DecodeError
from ottla.raft.sessions import Sessions, Standing


def test_a_result_is_known_from_its_application_until_the_client_has_resolved_it() -> None:
    sessions = Sessions()
    assert sessions.standing(7, 1) is Standing.UNKNOWN
    sessions.open(7)
    assert sessions.standing(7, 1) is Standing.NEW
    sessions.record(7, 1, b"one")
    sessions.record(7, 2, b"two")
    assert sessions.standing(7, 1) == b"one"
    sessions.use(7, 2)
    assert sessions.standing(7, 1) is Standing.UNKNOWN
    assert sessions.standing(7, 2) == b"two"
    sessions.use(7, 1)  # an older message that comes late
    assert sessions.standing(7, 1) is Standing.UNKNOWN


def test_the_session_used_least_lately_goes_first() -> None:
    sessions = Sessions(limit=2)
    sessions.open(1)
    sessions.open(2)
    sessions.use(1, 0)
    sessions.open(3)
    assert [sessions.standing(client, 1) for client in (1, 2, 3)] == [Standing.NEW, Standing.UNKNOWN, Standing.NEW]


def test_encoding_keeps_results_and_the_order_of_use() -> None:
    sessions = Sessions(limit=2)
    sessions.open(1)
    sessions.open(2)
    sessions.record(1, 5, b"five")
    sessions.use(1, 4)
    again = Sessions.decode(sessions.encode(), limit=2)
    assert again.encode() == sessions.encode()
    again.open(3)
    assert again.standing(1, 5) == b"five"
    assert again.standing(2, 1) is Standing.UNKNOWN


@pytest.mark.parametrize("cut", range(44))
def test_anything_else_is_refused(cut: int) -> None:
    sessions = Sessions()
    sessions.open(1)
    sessions.record(1, 5, b"five")
    data = sessions.encode()
    with pytest.raises(DecodeError):
        Sessions.decode(data[: min(cut, len(data) - 1)])
    with pytest.raises(DecodeError):
        Sessions.decode(data + b"x")
