"""What librdkafka logs of the epochs that it raises is in the history; the lines are its own."""

from pathlib import Path

from ottla.testing.chaos.renumbered import note_renumbered
from ottla.testing.history import read

LINES = """\
%7|1795665741.874|DRAIN|rdkafka#producer-1| [thrd:198.18.0.3:9094/3]: t [2] beginning partition drain: wait for \
outstanding requests to finish before producing to new leader
%7|1795665741.900|DRAIN|rdkafka#producer-4| [thrd:198.18.0.3:9094/3]: Beginning partition drain in state Assigned for \
PID{Id:7,Epoch:0} epoch bump for 2 partition(s) with in-flight requests: skipped sequence numbers
%7|1795665741.901|DRAIN|rdkafka#producer-4| [thrd:main]: All partitions drained, bumped epoch to PID{Id:7,Epoch:1}
%7|1795665760.717|DRAIN|rdkafka#producer-3| [thrd:main]: All partitions drained, asking coordinator to bump epoch \
(currently PID{Id:2002,Epoch:0})
"""


def test_an_epoch_that_librdkafka_raised_by_itself_is_noted_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LINES)
    (tmp_path / "b.log").write_text("nothing of the kind\n")
    note_renumbered(tmp_path)
    (one,) = read(tmp_path).renumbered
    assert (one.process, one.producer_id, one.epoch) == ("a, rdkafka#producer-4", 7, 1)
    assert one.why == "skipped sequence numbers"


def test_where_none_was_raised_there_is_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a warning\n")
    assert note_renumbered(tmp_path) == []
    assert list(tmp_path.glob("*.history")) == []
