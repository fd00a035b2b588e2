"""Which commits the journal carries."""

from collections.abc import Callable, Sequence

import pytest

from ottla.partitions.config import LogConfig
from ottla.partitions.environment import JOURNAL_COMMIT_BYTES, JOURNAL_COMMIT_SMALL_BYTES, journal_takes
from ottla.partitions.journal import JournaledWrite
from tests.sim.log_harness import Node, make_batch


def test_the_journal_takes_what_is_small_and_more_of_what_comes_one_record_at_a_time() -> None:
    assert journal_takes(JOURNAL_COMMIT_BYTES, 1)
    assert not journal_takes(JOURNAL_COMMIT_BYTES + 1, 1)
    assert journal_takes(JOURNAL_COMMIT_SMALL_BYTES, 60)
    assert not journal_takes(JOURNAL_COMMIT_SMALL_BYTES, 10), "such a producer sends bytes"
    assert not journal_takes(JOURNAL_COMMIT_SMALL_BYTES + 1, 1000), "to write it twice costs more than a sync"


@pytest.mark.interpreted
def test_many_batches_of_one_record_are_one_commit_of_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(1, LogConfig(), journal_bytes=1 << 20)
    node.append(make_batch([b"the segment's file is made with the first one"]))
    node.clock.run_for(1000)
    journal = node.partition.environment.journal
    assert journal is not None
    commit, sizes = journal.commit, list[int]()

    def counted(writes: Sequence[JournaledWrite], done: Callable[[], None]) -> None:
        sizes.extend(write.job.count for write in writes)
        commit(writes, done)

    monkeypatch.setattr(journal, "commit", counted)
    acks = [node.append(make_batch([b"v" * 1000]))[1] for _ in range(20)]
    node.settle()
    assert sizes == [20]
    assert all(ack.code == 0 for ack in acks)
    node.append(make_batch([b"v" * 20_000]))
    node.settle()
    assert sizes == [20], "a large one goes straight to its segment"
