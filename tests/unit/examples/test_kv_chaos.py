"""What the kill loop makes of what it saw."""

from pathlib import Path

from examples.kv.chaos.history import load, save
from examples.kv.chaos.nemesis import Kill
from examples.kv.chaos.report import elections_ms, write_gaps_ms
from examples.kv.chaos.workload import Acknowledged
from ottla.testing.sim.register import Action, Append, CompareAndSet, History, Read, Write


def kill(at: float, *nodes: int, leader: int, others_were_up: bool = True) -> Kill:
    return Kill(at=at, restarted_at=at + 0.4, nodes=nodes, leader=leader, others_were_up=others_were_up)


def test_the_longest_pause_of_a_round_begins_before_the_kill() -> None:
    writes = [Acknowledged(at, 1) for at in (0.9, 1.0, 1.5, 1.6, 2.5, 2.6)]
    kills = [kill(1.1, 1, leader=1), kill(2.0, 2, leader=1)]
    assert [round(gap) for gap in write_gaps_ms(kills, writes)] == [900, 900]
    assert [round(gap) for gap in write_gaps_ms(kills[1:], writes)] == [900]
    assert write_gaps_ms(kills, []) == []


def test_an_election_ends_with_a_write_that_another_node_acknowledged() -> None:
    late = Acknowledged(1.11, 1)  # it was on its way when its node was killed
    writes = [Acknowledged(1.0, 1), late, Acknowledged(1.3, 2), Acknowledged(2.2, 3)]
    counted = kill(1.1, 1, leader=1)
    others = [kill(1.1, 2, leader=1), kill(1.1, 1, 2, leader=1), kill(1.1, 1, leader=1, others_were_up=False)]
    assert [round(ms) for ms in elections_ms([counted, *others], writes)] == [200]
    again = [late, Acknowledged(1.6, 1), Acknowledged(9.0, 2)]
    assert [round(ms) for ms in elections_ms([counted], again)] == [500]


def test_a_history_is_read_as_it_was_saved(tmp_path: Path) -> None:
    history = History()
    actions: list[Action] = [Read(b"v"), Write(None, True), Append(b"s", 3), CompareAndSet(None, b"w", False)]
    for n, action in enumerate(actions):
        number = history.invoke("c1", "k", action, float(n))
        history.complete(number, n + 0.5, action)
    history.fail(history.invoke("c2", "k", Write(b"x"), 8.0), 9.0)
    history.invoke("c2", "k", Append(b"y"), 10.0)
    save(tmp_path / "history", history.operations)
    assert load(tmp_path / "history") == list(history.operations)
