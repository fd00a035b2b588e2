"""Each kind of anomaly is found in an execution that is correct but for it, is named, and nothing else is blamed."""

from collections.abc import Iterator
from itertools import islice

import pytest

from ottla.testing.history import Expectations, Kind, Verdict, check, history_of
from tests.unit.testing.history.executions import execution
from tests.unit.testing.history.planting import PLANTS, NotHere, Plant

EXPECTED = Expectations(longest_gap_ms=1000)
EXECUTIONS = 5
TRIED = 60


def verdicts(plant: Plant) -> list[Verdict]:
    """Of the first executions that have what the plant changes."""

    def judged() -> Iterator[Verdict]:
        for seed in range(TRIED):
            try:
                planted = plant(execution(seed))
            except NotHere:
                continue
            yield check(history_of(planted), EXPECTED)

    return list(islice(judged(), EXECUTIONS))


@pytest.mark.parametrize(("kind", "plant"), PLANTS, ids=[plant.__name__ for _, plant in PLANTS])
def test_a_planted_anomaly_is_found_and_nothing_else(kind: Kind, plant: Plant) -> None:
    found = verdicts(plant)
    assert len(found) == EXECUTIONS, "the executions have nothing that could be changed"
    for verdict in found:
        assert verdict.counts().keys() == {kind}, str(verdict)
        assert kind.value in str(verdict)


def test_every_anomaly_names_operations_and_an_excerpt_is_short() -> None:
    for kind, plant in PLANTS:
        for verdict in verdicts(plant):
            for anomaly in verdict.of(kind):
                assert anomaly.operations
                assert len(str(anomaly).splitlines()) < 20
                assert max(map(len, str(anomaly).splitlines())) < 600
