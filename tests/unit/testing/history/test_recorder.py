"""What recorders of several threads and processes wrote is read back, also when one was killed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ottla.testing.history import (
    Assigned,
    At,
    BadHistory,
    Begin,
    Commit,
    End,
    EndOffsets,
    OffsetFetch,
    Operation,
    Outcome,
    Poll,
    Recorder,
    Renumbered,
    Revoked,
    Seek,
    Seen,
    Send,
    Snapshot,
    TopicPartition,
    Writers,
    Written,
    read,
)

EVERY_KIND: list[Operation] = [
    Send(process="a", invoked_ns=1, topic="t", partition=0, value="v", key="ü", source=At("s", 1, 2)),
    Poll(
        process="b",
        invoked_ns=2,
        completed_ns=3,
        outcome=Outcome.OK,
        committed=True,
        records=(Seen("t", 0, 0, "v", "k", "txn"), Seen("t", 0, 1, None)),
        positions=(At("t", 0, 2),),
    ),
    Commit(process="b", invoked_ns=3, group="g", offsets=(At("t", 0, 2),), transaction="txn"),
    OffsetFetch(process="b", invoked_ns=4, group="g", offsets=(At("t", 0, 2),), final=True),
    Begin(process="a", invoked_ns=5, transaction="txn", transactional_id="id"),
    End(process="a", invoked_ns=6, transaction="txn", commit=True, outcome=Outcome.FAILED, error="fenced"),
    Assigned(
        process="b",
        invoked_ns=7,
        partitions=(TopicPartition("t", 0),),
        group="g",
        generation=3,
        member="m",
        starts=(At("t", 0, 0),),
    ),
    Revoked(process="b", invoked_ns=8, partitions=(TopicPartition("t", 0),), lost=True),
    Seek(process="b", invoked_ns=9, to=(At("t", 0, 0),)),
    EndOffsets(process="b", invoked_ns=10, offsets=(At("t", 0, 2),), final=True),
    Snapshot(process="b", invoked_ns=11, topic="t", entries=(("k", "v"),)),
    Writers(process="r", invoked_ns=12, topic="t", partition=0, written=(Written(0, 1, 7, 0), Written(2, 2, 7, 1))),
    Renumbered(process="a", invoked_ns=13, producer_id=7, epoch=1, why="a gap"),
]


def test_every_kind_is_read_as_it_was_written(tmp_path: Path) -> None:
    with Recorder(tmp_path / "one.history") as recorder:
        for operation in EVERY_KIND:
            recorder.add(operation)
    assert sorted(read(tmp_path), key=lambda one: one.invoked_ns) == EVERY_KIND


def test_files_of_several_processes_are_merged_by_time_of_invocation(tmp_path: Path) -> None:
    for number in range(3):
        with Recorder(tmp_path / f"{number}.history") as recorder:
            for at in range(number, 30, 3):
                recorder.add(_send(at))
    assert [one.invoked_ns for one in read(tmp_path).sends] == list(range(30))


def test_threads_may_share_a_recorder(tmp_path: Path) -> None:
    with Recorder(tmp_path / "one.history") as recorder, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda at: recorder.end(recorder.begin(_send(at)), _send(at)), range(1000)))
    assert [one.invoked_ns for one in read(tmp_path).sends] == list(range(1000))


def test_what_was_begun_and_never_ended_is_unknown(tmp_path: Path) -> None:
    with Recorder(tmp_path / "one.history") as recorder:
        lost = recorder.begin(_send(1))
        told = recorder.begin(_send(2))
        recorder.end(told, _send(2, Outcome.OK))
    with Recorder(tmp_path / "one.history") as recorder:  # begun anew: its numbers are others
        assert recorder.begin(_send(3)) == lost
    assert [(one.invoked_ns, one.outcome) for one in read(tmp_path).sends] == [
        (1, Outcome.UNKNOWN),
        (2, Outcome.OK),
        (3, Outcome.UNKNOWN),
    ]


def test_a_line_that_a_killed_process_left_torn_is_no_operation(tmp_path: Path) -> None:
    path = tmp_path / "one.history"
    with Recorder(path) as recorder:
        recorder.add(_send(1))
        recorder.add(_send(2))
    path.write_bytes(path.read_bytes()[:-9])
    assert [one.invoked_ns for one in read(tmp_path).sends] == [1]


@pytest.mark.parametrize("line", ["nonsense", '["dance", 0]', '["send", 0, "a"]', "[]"])
def test_a_line_that_is_no_operation_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "one.history"
    path.write_text(line + "\n")
    with pytest.raises(BadHistory, match=r"one\.history, line 1"):
        read(tmp_path)


def _send(at: int, outcome: Outcome = Outcome.UNKNOWN) -> Send:
    return Send(process="a", invoked_ns=at, topic="t", partition=0, value=str(at), outcome=outcome)
