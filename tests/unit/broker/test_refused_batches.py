"""Batches behind one that was refused: they share its fate, as their producer sends all of them again, in order."""

import pytest

from ottla.broker import refusals
from ottla.broker.produce import ProducedTopics
from ottla.core.errors import ErrorCode
from ottla.partitions.results import Isolation
from ottla.records.batch import Record, encode_batch
from ottla.records.header import MAX_SEQUENCE, iterate_headers, patch_base_offset
from tests.unit.broker.hot_path import HotPath, only, topic_id

ID = 7


class Pipelining:
    """An idempotent producer that does not wait for answers."""

    def __init__(self) -> None:
        self.broker = HotPath({"t": 2})

    def send(
        self,
        sequence: int,
        *,
        count: int = 1,
        epoch: int = 0,
        producer_id: int = ID,
        index: int = 0,
        by_id: bool = False,
    ) -> list[ProducedTopics]:
        records = [Record(key=b"k", value=b"v", timestamp=1) for _ in range(count)]
        encoded = encode_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
        topic = topic_id("t") if by_id else "t"
        return self.broker.start_produce([(topic, [(index, memoryview(bytearray(encoded)))])])

    def error(self, outcomes: list[ProducedTopics]) -> ErrorCode:
        return only(self.broker.finish(outcomes)).error

    def sequences(self) -> list[int]:
        """Of what is in the log."""
        partition = self.broker.partition("t")
        found = partition.read(0, 1 << 20, isolation=Isolation.LOG_END, minimum_one_batch=True, done=lambda _: None)
        assert found is not None
        data = b"".join(bytes(part) for part in found.buffers)
        return [header.base_sequence for _, header in iterate_headers(data)]

    def lead(self, leads: bool, index: int = 0) -> None:
        self.broker.partition("t", index).is_leader = leads


NOT_LEADER, IN_ORDER, OUT_OF_ORDER = (
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.NONE,
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
)


@pytest.fixture
def one() -> Pipelining:
    return Pipelining()


def refuse(one: Pipelining, sequence: int, *, count: int = 1, producer_id: int = ID) -> None:
    """A batch comes while this node does not lead; then it does (again)."""
    one.lead(leads=False)
    assert one.error(one.send(sequence, count=count, producer_id=producer_id)) is NOT_LEADER
    one.lead(leads=True)


def test_what_stands_behind_a_refused_batch_is_refused_alike(one: Pipelining) -> None:
    assert one.error(one.send(0, count=3)) is IN_ORDER
    refuse(one, 3, count=2)
    assert [one.error(one.send(sequence)) for sequence in (5, 6, 7)] == [NOT_LEADER] * 3
    assert [one.error(one.send(3, count=2)), *(one.error(one.send(sequence)) for sequence in (5, 6, 7, 8))] == [
        IN_ORDER
    ] * 5
    assert one.sequences() == [0, 3, 5, 6, 7, 8]


def test_too_few_replicas_are_no_other_reason(one: Pipelining) -> None:
    assert one.error(one.send(0)) is IN_ORDER
    partition = one.broker.partition("t")

    class Alone:
        has_enough_replicas = False

    role, partition.role = partition.role, Alone()  # type: ignore[assignment]
    assert one.error(one.send(1)) is ErrorCode.NOT_ENOUGH_REPLICAS
    partition.role = role
    assert one.error(one.send(2)) is ErrorCode.NOT_ENOUGH_REPLICAS
    assert [one.error(one.send(sequence)) for sequence in (1, 2)] == [IN_ORDER] * 2


def test_a_producer_that_is_not_known_yet_does_not_begin_in_the_middle(one: Pipelining) -> None:
    refuse(one, 0, count=5)
    assert one.error(one.send(5)) is NOT_LEADER
    assert [one.error(one.send(0, count=5)), one.error(one.send(5))] == [IN_ORDER] * 2
    assert one.sequences() == [0, 5]


def test_who_comes_again_without_what_was_refused_is_told_that_it_is_missing(one: Pipelining) -> None:
    assert one.error(one.send(0)) is IN_ORDER
    refuse(one, 1)
    assert [one.error(one.send(2)) for _ in range(3)] == [NOT_LEADER, OUT_OF_ORDER, OUT_OF_ORDER]
    assert one.error(one.send(3)) is OUT_OF_ORDER


def test_a_batch_that_is_refused_again_is_shielded_again(one: Pipelining) -> None:
    assert one.error(one.send(0)) is IN_ORDER
    for _ in range(2):
        refuse(one, 1)
        assert [one.error(one.send(sequence)) for sequence in (2, 3)] == [NOT_LEADER] * 2


def test_one_that_is_not_right_behind_was_never_to_follow(one: Pipelining) -> None:
    assert one.error(one.send(0)) is IN_ORDER
    refuse(one, 1)
    assert one.error(one.send(3)) is OUT_OF_ORDER


def test_others_are_not_concerned(one: Pipelining) -> None:
    for producer_id, epoch, index in ((ID, 0, 0), (ID + 1, 0, 0), (ID, 0, 1)):
        assert one.error(one.send(0, producer_id=producer_id, epoch=epoch, index=index)) is IN_ORDER
    refuse(one, 1)
    assert one.error(one.send(2, producer_id=ID + 1)) is OUT_OF_ORDER
    assert one.error(one.send(2, index=1)) is OUT_OF_ORDER
    assert one.error(one.send(2, epoch=1)) is OUT_OF_ORDER
    assert one.error(one.send(0, epoch=1)) is IN_ORDER


def test_what_was_appended_elsewhere_meanwhile_is_followed(one: Pipelining) -> None:
    """The refused batch went to another leader, and came here by replication: the next one is in order."""
    assert one.error(one.send(0)) is IN_ORDER
    refuse(one, 1)
    records = [Record(key=b"k", value=b"v", timestamp=1)]
    copied = encode_batch(records, producer_id=ID, producer_epoch=0, base_sequence=1)
    partition = one.broker.partition("t")
    buffer = memoryview(bytearray(copied))
    patch_base_offset(buffer, 0, partition.log_end_offset, partition.leader_epoch)
    partition.append_replicated(buffer)
    assert one.error(one.send(2)) is IN_ORDER
    assert one.error(one.send(2)) is IN_ORDER  # again, as a duplicate


def test_topics_may_be_named_by_id_and_sequences_wrap(one: Pipelining) -> None:
    assert one.error(one.send(MAX_SEQUENCE, by_id=True)) is IN_ORDER
    one.lead(leads=False)
    assert one.error(one.send(0, by_id=True)) is NOT_LEADER
    one.lead(leads=True)
    assert one.error(one.send(1, by_id=True)) is NOT_LEADER
    assert [one.error(one.send(sequence, by_id=True)) for sequence in (0, 1)] == [IN_ORDER] * 2


def test_lasting_refusals_shield_nothing(one: Pipelining) -> None:
    assert one.error(one.send(0)) is IN_ORDER
    records = [Record(key=b"k", value=b"v", timestamp=1)]
    damaged = bytearray(encode_batch(records, producer_id=ID, producer_epoch=0, base_sequence=1))
    damaged[-1] ^= 1
    assert one.error(one.broker.start_produce([("t", [(0, memoryview(damaged))])])) is ErrorCode.CORRUPT_MESSAGE
    assert one.error(one.send(2)) is OUT_OF_ORDER


@pytest.mark.interpreted
def test_only_so_much_is_remembered(one: Pipelining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST", 3)
    for producer_id in range(5):
        assert one.error(one.send(0, producer_id=producer_id)) is IN_ORDER
    for producer_id in range(5):
        refuse(one, 1, producer_id=producer_id)
    assert [one.error(one.send(2, producer_id=producer_id)) for producer_id in range(5)] == [
        OUT_OF_ORDER, OUT_OF_ORDER, NOT_LEADER, NOT_LEADER, NOT_LEADER,
    ]  # fmt: skip
