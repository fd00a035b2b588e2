"""The verdict on a copy made in transactions convicts every way in which it can be wrong."""

import pytest

from chaos.exactly_once import Judgement, compare

SOURCE = {0: ["a", "b", "c"], 1: ["d"]}
WHOLE = {
    0: [("committed x.1 2", "a"), ("committed x.2 2", "b"), ("committed x.2 2", "c")],
    1: [("committed x.1 2", "d")],
}


def judged(copy: dict[int, list[tuple[str, str]]]) -> Judgement:
    judgement = Judgement()
    compare(judgement, SOURCE, copy)
    return judgement


def test_a_whole_copy_is_acquitted() -> None:
    judgement = judged(WHOLE)
    assert judgement.problems == []
    assert (judgement.records, judgement.transactions) == (4, 2)


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ([*WHOLE[0], ("committed x.3 1", "c")], "partition 0: c is there 2 times"),
        (WHOLE[0][:1], "partition 0: b was not copied"),
        ([*WHOLE[0], ("committed x.3 1", "z")], "partition 0: z is not in the source"),
        ([WHOLE[0][0], WHOLE[0][2], WHOLE[0][1]], "partition 0: the copy has another order"),
        (WHOLE[0][:2], "transaction committed x.2 2 is torn: 1 records of it show"),
        (
            [*WHOLE[0][:2], ("aborted x.3 1", "c")],
            "partition 0: c shows, but its transaction was aborted: aborted x.3 1",
        ),
    ],
)
def test_what_is_wrong_is_named(first: list[tuple[str, str]], problem: str) -> None:
    assert problem in judged({**WHOLE, 0: first}).problems
