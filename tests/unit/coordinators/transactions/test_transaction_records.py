"""The records of `__transaction_state`, byte for byte."""

from dataclasses import replace
from struct import pack

import pytest

from ottla.coordinators.runtime import CoordinatorRecord
from ottla.coordinators.transactions.records import TransactionRecordCodec, tombstone, transaction_record
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import (
    EPOCH_MAX,
    Producer,
    Transaction,
    check_transition,
    from_value,
    to_value,
)
from ottla.core.errors import DecodeError
from ottla.protocol.messages.group_metadata_key import GroupMetadataKey
from ottla.protocol.messages.transaction_log_value import TransactionLogValue
from tests.unit.coordinators.transactions.transaction_fakes import Node

CODEC = TransactionRecordCodec()
ONGOING = Transaction(
    producer_id=7,
    producer_epoch=3,
    previous_producer_id=7,
    timeout_ms=60_000,
    state=TransactionState.ONGOING,
    partitions=frozenset({("jobs", 1), ("jobs", 0)}),
    start_ms=11,
    last_update_ms=12,
    client_version=2,
)


def test_an_ongoing_transaction_is_written_as_kafka_writes_it() -> None:
    key, value = CODEC.encode(transaction_record("abc", ONGOING))
    assert key == b"\x00\x00" + b"\x00\x03abc"
    partitions = b"\x02" + b"\x05jobs" + b"\x03" + pack(">ii", 0, 1) + b"\x00"
    tags = b"\x02" + b"\x00\x08" + pack(">q", 7) + b"\x02\x02" + pack(">h", 2)
    assert value == pack(">hqhib", 1, 7, 3, 60_000, 1) + partitions + pack(">qq", 12, 11) + tags


def test_an_empty_one_has_no_list_of_partitions() -> None:
    empty = Transaction(producer_id=7, producer_epoch=3, timeout_ms=1, state=TransactionState.EMPTY, last_update_ms=12)
    _, value = CODEC.encode(transaction_record("abc", empty))
    assert value == pack(">hqhib", 1, 7, 3, 1, 0) + b"\x00" + pack(">qq", 12, -1) + b"\x00"


def test_what_is_written_is_read() -> None:
    prepared = replace(ONGOING, state=TransactionState.PREPARE_COMMIT, next_producer_id=9)
    for transaction in (ONGOING, prepared, replace(ONGOING, partitions=frozenset())):
        record = transaction_record("t", transaction)
        decoded = CODEC.decode(*CODEC.encode(record))
        assert decoded is not None
        assert decoded.key.transactional_id == "t"
        assert from_value(decoded.value) == transaction
    assert CODEC.encode(tombstone("t"))[1] is None
    decoded = CODEC.decode(*CODEC.encode(tombstone("t")))
    assert decoded is not None
    assert decoded.value is None


def test_version_0_of_kafka_before_4_is_read() -> None:
    key, _ = CODEC.encode(tombstone("t"))
    decoded = CODEC.decode(key, CODEC.encode(CoordinatorRecord(*_old(ONGOING)))[1])
    assert decoded is not None
    assert from_value(decoded.value) == replace(ONGOING, previous_producer_id=-1, client_version=0)


def _old(transaction: Transaction) -> tuple[object, TransactionLogValue, int]:
    return tombstone("t").key, to_value(transaction), 0


@pytest.mark.parametrize(("key", "value"), [(b"\x00", None), (b"\x00\x00\x00\x01t", b"\x00")])
def test_a_record_without_version_is_an_error(key: bytes, value: bytes | None) -> None:
    with pytest.raises(DecodeError, match="version"):
        CODEC.decode(key, value)


def test_unknown_keys_are_passed_over_and_unknown_values_are_not() -> None:
    key, value = CODEC.encode(transaction_record("t", ONGOING))
    assert value is not None
    assert CODEC.decode(b"\x00\x01" + key[2:], value) is None
    with pytest.raises(DecodeError, match="unknown version 2"):
        CODEC.decode(key, b"\x00\x02" + value[2:])


def test_an_unknown_state_is_an_error() -> None:
    value = to_value(ONGOING)
    value.transaction_status = 9
    with pytest.raises(DecodeError, match="9 is no state"):
        from_value(value)


def test_records_of_another_kind_are_a_defect() -> None:
    with pytest.raises(TypeError, match="GroupMetadataKey"):
        Node().shard.replay(CoordinatorRecord(GroupMetadataKey(group="g")))


def test_what_must_not_follow_is_a_defect() -> None:
    check_transition(ONGOING, ONGOING)
    with pytest.raises(ValueError, match=r"from None to TransactionState\.ONGOING"):
        check_transition(None, ONGOING)
    with pytest.raises(ValueError, match="COMPLETE_ABORT"):
        check_transition(ONGOING, replace(ONGOING, state=TransactionState.COMPLETE_ABORT))
    with pytest.raises(ValueError, match="went back from 3"):
        check_transition(ONGOING, replace(ONGOING, producer_epoch=2))
    with pytest.raises(ValueError, match="no epoch left"):
        check_transition(ONGOING, replace(ONGOING, producer_epoch=EPOCH_MAX + 1))


def test_a_producer_knows_what_it_was() -> None:
    assert ONGOING.last_producer == Producer(7, 2)
    assert replace(ONGOING, previous_producer_id=-1).last_producer is None
    assert replace(ONGOING, previous_producer_id=6, producer_epoch=0).last_producer == Producer(6, 32_766)
