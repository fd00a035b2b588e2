"""Histories of clients, and a checker that finds in them what a log with transactions must never show.

with Recorder(directory / "writer.history", "writer") as recorder: ...   # in each process
verdict = check(read(directory), Expectations())
"""

from ottla.testing.history.check import check
from ottla.testing.history.history import BadHistory, History, history_of, read
from ottla.testing.history.operations import (
    Assigned,
    At,
    Begin,
    Commit,
    End,
    EndOffsets,
    OffsetFetch,
    Operation,
    Outcome,
    Poll,
    Renumbered,
    Revoked,
    Seek,
    Seen,
    Send,
    Snapshot,
    TopicPartition,
    Writers,
    Written,
)
from ottla.testing.history.recorder import Recorder, now_ns
from ottla.testing.history.verdict import Anomaly, Expectations, Kind, Verdict, Window

__all__ = [
    "Anomaly",
    "Assigned",
    "At",
    "BadHistory",
    "Begin",
    "Commit",
    "End",
    "EndOffsets",
    "Expectations",
    "History",
    "Kind",
    "OffsetFetch",
    "Operation",
    "Outcome",
    "Poll",
    "Recorder",
    "Renumbered",
    "Revoked",
    "Seek",
    "Seen",
    "Send",
    "Snapshot",
    "TopicPartition",
    "Verdict",
    "Window",
    "Writers",
    "Written",
    "check",
    "history_of",
    "now_ns",
    "read",
]
