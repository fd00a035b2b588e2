"""Correct executions are acquitted, whatever their clients know and do not know."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.testing.history import Outcome, check, history_of
from tests.unit.testing.history.executions import execution


@given(st.integers(0, 1 << 32))
@settings(max_examples=150, deadline=None)
def test_a_correct_execution_has_no_anomaly(seed: int) -> None:
    verdict = check(history_of(execution(seed)))
    assert verdict.ok, str(verdict)


def test_the_executions_are_worth_judging() -> None:
    """Or else nothing above would say anything."""
    histories = [history_of(execution(seed)) for seed in range(20)]
    for history in histories:
        assert sum(one.outcome is Outcome.OK for one in history.sends) > 10
        assert len(history.polls) > 20
    assert any(one.outcome is Outcome.UNKNOWN for history in histories for one in history.sends)
    assert any(one.outcome is Outcome.UNKNOWN for history in histories for one in history.ends)
    assert any(one.outcome is Outcome.OK and one.commit for history in histories for one in history.ends)
    assert any(not one.commit for history in histories for one in history.ends)
    assert any(one.outcome is Outcome.OK for history in histories for one in history.commits)
