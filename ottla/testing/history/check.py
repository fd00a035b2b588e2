"""The judge: a history and what is expected of it in, a verdict out. Each kind of anomaly has a module of its own."""

from ottla.testing.history.history import History
from ottla.testing.history.operations import Outcome
from ottla.testing.history.verdict import Expectations, Verdict

_PLAIN = Expectations()


def check(history: History, expectations: Expectations = _PLAIN) -> Verdict:
    """Look for every kind of anomaly."""
    return Verdict(
        operations=len(history),
        acknowledged=sum(one.outcome is Outcome.OK for one in history.sends),
        seen=sum(len(one.records) for one in history.polls),
    )
