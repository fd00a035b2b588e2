"""When a node looks at its partitions for what is to be saved."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from ottla.partitions.config import LogConfig
from ottla.partitions.manager import CHECKPOINT_INTERVAL_MS
from tests.sim.log_harness import Node, make_batch


def watch(node: Node, monkeypatch: pytest.MonkeyPatch, looks: list[float]) -> None:
    checkpoint = node.manager.checkpoint

    def counted(done: Callable[[Exception | None], None]) -> None:
        looks.append(node.clock.monotonic_ms())
        checkpoint(done)

    monkeypatch.setattr(node.manager, "checkpoint", counted)


@pytest.mark.interpreted
def test_every_second_after_a_write_and_seldom_while_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    node, looks = Node(1, LogConfig()), list[float]()
    node.clock.run_for(CHECKPOINT_INTERVAL_MS)
    watch(node, monkeypatch, looks)
    for _ in range(4):
        node.append(make_batch([b"v"]))
        node.settle()
        node.clock.run_for(CHECKPOINT_INTERVAL_MS)
    assert len(looks) == 4
    node.clock.run_for(36 * CHECKPOINT_INTERVAL_MS)
    pauses = [round((later - earlier) / CHECKPOINT_INTERVAL_MS) for earlier, later in pairwise(looks[3:])]
    assert pauses == [5, 10, 20]
    node.clock.run_for(240 * CHECKPOINT_INTERVAL_MS)
    assert len(looks) <= 4 + 3 + 5
    node.append(make_batch([b"v"]))
    node.settle()
    before = len(looks)
    node.clock.run_for(6 * CHECKPOINT_INTERVAL_MS)
    assert len(looks) == before + 2, "at once, and seldom again"


@pytest.mark.interpreted
def test_what_waits_for_its_sync_is_looked_at_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    node, looks = Node(1, LogConfig(flush_on_ack=False, flush_ms=10 * CHECKPOINT_INTERVAL_MS)), list[float]()
    watch(node, monkeypatch, looks)
    node.append(make_batch([b"v"]))
    node.settle()
    node.clock.run_for(8 * CHECKPOINT_INTERVAL_MS)
    assert len(looks) >= 8
    assert node.partition.log.dirty
    node.clock.run_for(4 * CHECKPOINT_INTERVAL_MS)
    assert not node.partition.log.dirty, "synced after its time"
