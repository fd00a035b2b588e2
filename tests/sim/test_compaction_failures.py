"""A compaction that fails costs space for a while: no records, and not the next compaction."""

from random import Random

from ottla.partitions.cleaner import _candidate
from ottla.partitions.results import State
from tests.sim.log_harness import Node
from tests.sim.test_compaction import CONFIG, living, state_of, write


def compact(node: Node) -> None:
    node.clock.run_for(2500)  # the recovery point passes what is sealed
    node.manager.compact()
    node.clock.run_until(lambda: not node.partition.compacting)
    node.clock.run_for(2500)


def full(operation: str, path: str) -> None:
    if operation == "write" and ".cleaned" in path:
        raise OSError(28, "No space left on device")


def test_what_a_failed_compaction_left_is_compacted_later() -> None:
    node, random = Node(1, CONFIG), Random(1)
    latest: dict[bytes, bytes | None] = {}
    write(node, random, 40, latest, "first")
    node.disk.files.before = full
    compact(node)
    assert node.partition.cleaned_to == 0
    node.disk.files.before = None

    before = node.partition.size_bytes
    compact(node)
    assert node.partition.size_bytes == before  # the same is not tried again at once
    assert node.partition.state is State.ONLINE

    write(node, random, 10, latest, "second")
    compact(node)
    assert node.partition.size_bytes < before
    assert living(state_of(node)) == living(latest)


def test_a_segment_that_is_still_being_written_is_not_compacted() -> None:
    node, random = Node(1, CONFIG), Random(1)
    write(node, random, 40, {}, "first")
    node.clock.run_for(2500)
    log, now_ms = node.partition.log, node.clock.time_ms()
    candidate = _candidate(node.partition, now_ms)
    assert candidate is not None
    log.written_end_offset = candidate.segments[-1].next_offset - 1  # its end is in the journal only
    candidate = _candidate(node.partition, now_ms)
    assert candidate is None or candidate.segments[-1].next_offset <= log.written_end_offset
