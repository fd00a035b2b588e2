"""`ottla explain lso`: what it advises."""

from typing import Any

import pytest
from click.testing import CliRunner

from ottla.cli.explain import Stable, what_to_do
from ottla.cli.states import OPEN_TRANSACTION_STATES, TRANSACTION_STATES
from ottla.cli.txn import txn
from ottla.client import ProducerState, TopicPartition, TransactionDescription
from ottla.client.admin_transactions import is_hanging
from ottla.coordinators.transactions.states import TransactionState
from ottla.core.errors import ConfigError

T3 = TopicPartition("t", 3)
HOLDER = ProducerState(
    producer_id=7,
    producer_epoch=2,
    last_sequence=0,
    last_timestamp_ms=0,
    coordinator_epoch=-1,
    transaction_start_offset=40,
)


def known(**changes: Any) -> TransactionDescription:
    fields: dict[str, Any] = {
        "transactional_id": "x",
        "state": "Ongoing",
        "producer_id": 7,
        "producer_epoch": 2,
        "timeout_ms": 60_000,
        "start_time_ms": 1_000,
        "partitions": (T3,),
        "coordinator_id": 2,
        **changes,
    }
    return TransactionDescription(**fields)


def advice(transaction: TransactionDescription | None, *, now_ms: float = 2_000, held: bool = True) -> str:
    stable = Stable(
        partition=T3,
        high_watermark=50,
        last_stable_offset=40,
        holder=HOLDER if held else None,
        transaction=transaction,
        others=0,
    )
    return what_to_do(stable, now_ms)


@pytest.mark.parametrize(
    ("transaction", "now_ms", "words"),
    [
        (known(), 2_000, "in 59s the cluster aborts it"),
        (known(), 99_000, "its coordinator (node 2) should have aborted it"),
        (known(state="PrepareCommit", producer_epoch=3), 2_000, "being committed"),
        (known(state="PrepareAbort"), 2_000, "being aborted"),
        (None, 2_000, "ottla txn abort --partition t:3 --start-offset 40"),
        (known(partitions=()), 2_000, "it hangs"),
        (known(producer_id=8), 2_000, "it hangs"),
    ],
)
def test_the_advice_fits_what_holds_it(transaction: TransactionDescription | None, now_ms: float, words: str) -> None:
    assert words in advice(transaction, now_ms=now_ms)


def test_what_nobody_holds_needs_nothing() -> None:
    assert "Look again" in advice(None, held=False)


@pytest.mark.parametrize(
    ("transaction", "hangs"),
    [
        (known(), False),
        (known(producer_epoch=3), False),  # it is being ended under the next epoch
        (known(producer_epoch=1), True),
        (known(partitions=(TopicPartition("t", 0),)), True),
        (known(producer_id=8), True),
        (None, True),
    ],
)
def test_a_transaction_hangs_when_no_coordinator_will_end_it_there(
    transaction: TransactionDescription | None, hangs: bool
) -> None:
    assert is_hanging(T3, HOLDER, transaction) is hangs


@pytest.mark.parametrize(
    "arguments", [[], ["x", "--partition", "t:0"], ["--partition", "t:0"], ["--start-offset", "1"]]
)
def test_abort_wants_to_know_what(arguments: list[str]) -> None:
    done = CliRunner().invoke(txn, ["abort", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert "--partition TOPIC:PARTITION with --start-offset" in str(done.exception)


def test_states_are_those_that_transactions_have_and_others_are_refused() -> None:
    assert set(TRANSACTION_STATES) == {state.label for state in TransactionState}
    done = CliRunner().invoke(txn, ["list", "--state", "open"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("--state open: there is no such state, only Empty, Ongoing, ")


@pytest.mark.parametrize(
    ("arguments", "states"),
    [
        ([], ()),
        (["--longer-than", "1s"], OPEN_TRANSACTION_STATES),
        (["--longer-than", "1s", "--state", "empty"], ("Empty",)),
    ],
)
def test_only_what_is_open_has_been_open_for_long(
    arguments: list[str], states: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    async def note(_: object, states: tuple[str, ...], __: int) -> list[object]:
        asked.append(states)
        return []

    monkeypatch.setattr("ottla.cli.txn._list", note)
    assert CliRunner().invoke(txn, ["list", *arguments]).exit_code == 0
    assert asked == [states]
