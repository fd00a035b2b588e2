"""A life in which everything happens, ended at each operation on files, by each kind of failure."""

import errno
from functools import cache
from random import Random

import pytest

from ottla.raft.core import HardState
from ottla.testing.sim.files import PowerCut
from tests.unit.raft.journal.model import ONE, TWO, Handed, Subject, entries, entry, snapshot


def life(subject: Subject) -> None:
    subject.open()
    subject.persist(Handed(hard_state=HardState(1, ONE)))
    subject.persist(entries(1, 3), entries(3, 9))  # fills most of a segment
    subject.persist(entries(9, 13))
    subject.persist(Handed(hard_state=HardState(2, None), entries=[entry(7, 2), entry(8, 2)]))  # across segments
    subject.persist(Handed(hard_state=HardState(2, TWO)), entries(9, 10, 2))
    own = snapshot(8, 2)
    subject.save(own)
    subject.persist(entries(10, 16, 2))
    subject.trim(own)
    subject.persist(entries(16, 17, 2, size=400))  # larger than a segment
    own = snapshot(16, 2)
    subject.save(own)
    subject.trim(own)
    subject.persist(entries(17, 22, 2))
    received = snapshot(100, 5)
    subject.persist(entries(22, 23, 2), Handed(HardState(6, None), received, [entry(101, 6)]), entries(102, 104, 6))
    subject.persist(entries(104, 110, 6))
    own = snapshot(105, 6)
    subject.save(own)
    subject.trim(own)
    subject.restart()
    subject.persist(Handed(hard_state=HardState(7, ONE)), entries(108, 112, 7))
    subject.journal.close()


@cache
def operations() -> int:
    subject = Subject()
    life(subject)
    return subject.files.operations


def goes_on(subject: Subject) -> None:
    """All can be done again, and is durable."""
    subject.heal()
    term = subject.state.hard_state.term + 1
    last = subject.state.last_index
    subject.persist(Handed(hard_state=HardState(term, None)), entries(last + 1, last + 12, term))
    own = snapshot(last + 10, term)
    subject.save(own)
    subject.trim(own)
    stored = subject.cut_power(0)
    assert (stored.torn_bytes, len(stored.entries)) == (0, 1)
    assert not [name for name in subject.names() if name.endswith(".new")]
    assert len([name for name in subject.names() if name.endswith(".snapshot")]) == 1


@pytest.mark.parametrize("seed", range(6))
def test_what_was_persisted_is_there_after_a_power_cut_at_any_operation(seed: int) -> None:
    for number in range(operations()):
        subject = Subject()
        subject.fail_at(number)
        try:
            life(subject)
        except PowerCut:
            subject.cut_power(seed * 1000 + number)
        goes_on(subject)


@pytest.mark.parametrize("seed", range(2))
def test_a_second_power_cut_while_the_start_mends_the_first_ones_traces_changes_nothing(seed: int) -> None:
    for number in range(0, operations(), 3):
        for second in range(0, 20, 2):
            subject = Subject()
            subject.fail_at(number)
            try:
                life(subject)
            except PowerCut:
                subject.heal()
                subject.files.crash(Random(seed + number))
                subject.fail_at(second)
                try:
                    subject.open()
                except PowerCut:
                    subject.cut_power(seed + second)
            goes_on(subject)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("power", [True, False])
def test_after_a_failed_operation_the_next_start_finds_what_was_persisted(code: int, *, power: bool) -> None:
    for number in range(operations()):
        subject = Subject()
        subject.fail_at(number, lambda: OSError(code, "it failed"))
        try:
            life(subject)
        except OSError:
            subject.heal()
            if power:
                subject.cut_power(number)
            else:
                subject.restart()
                subject.cut_power(number)  # what the start returned is durable
        goes_on(subject)
