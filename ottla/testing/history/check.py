"""The judge: a history and what is expected of it in, a verdict out. Each kind of anomaly has a module of its own."""

from collections.abc import Callable, Iterator
from typing import Final

from ottla.testing.history.anomalies.availability import unavailable
from ottla.testing.history.anomalies.cycles import cycles
from ottla.testing.history.anomalies.divergence import divergent
from ottla.testing.history.anomalies.duplicates import duplicates, processed_twice
from ottla.testing.history.anomalies.lost import lost_writes, skipped, unjudged
from ottla.testing.history.anomalies.offsets import committed_offsets, offsets_and_records
from ottla.testing.history.anomalies.order import reordered, went_back
from ottla.testing.history.anomalies.owners import two_owners
from ottla.testing.history.anomalies.reads import aborted_and_uncommitted, from_nowhere
from ottla.testing.history.anomalies.tables import stale_values, wrong_totals
from ottla.testing.history.anomalies.torn import left_open, torn
from ottla.testing.history.facts import Facts
from ottla.testing.history.history import History
from ottla.testing.history.operations import Outcome
from ottla.testing.history.verdict import Anomaly, Expectations, Verdict

CHECKS: Final[tuple[Callable[[Facts], Iterator[Anomaly]], ...]] = (
    lost_writes,
    torn,
    skipped,
    duplicates,
    processed_twice,
    divergent,
    reordered,
    went_back,
    from_nowhere,
    aborted_and_uncommitted,
    left_open,
    cycles,
    committed_offsets,
    offsets_and_records,
    two_owners,
    wrong_totals,
    stale_values,
    unavailable,
)

_PLAIN: Final = Expectations()


def check(history: History, expectations: Expectations = _PLAIN) -> Verdict:
    """Look for every kind of anomaly."""
    facts = Facts(history, expectations)
    verdict = Verdict(
        operations=len(history),
        acknowledged=sum(one.outcome is Outcome.OK for one in history.sends),
        seen=sum(map(len, (log.seen for log in facts.logs.values()))),
        unjudged=unjudged(facts),
    )
    for one in CHECKS:
        verdict.add(one(facts))
    return verdict
