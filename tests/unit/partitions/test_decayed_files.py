"""What lay on the disk while its node was down, and is not what was written any more: no reader gets it."""

import contextlib
import errno
from collections.abc import Callable

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Buffer
from ottla.partitions.config import LogConfig
from ottla.partitions.results import State
from ottla.partitions.segment import INDEX_SUFFIX
from ottla.records.header import HEADER_BYTES, BatchHeader, iterate_headers
from tests.sim.log_harness import Node, make_batch
from tests.unit.partitions.replication.test_partition_roles import ME, follow, lead

SEGMENT_BYTES = 2000
COUNT = 30
LEADER_EPOCH = range(12, 16)  # of a batch: nothing covers it, and each leader writes its own


def filled(*, cleanup_compact: bool = False) -> Node:
    config = LogConfig(segment_bytes=SEGMENT_BYTES, min_insync_replicas=1, cleanup_compact=cleanup_compact)
    node = Node(1, config)
    for n in range(COUNT):
        node.append(make_batch([b"value of %d" % n + b"." * 300], keys=[b"%d" % (n % 3)]))
        node.settle()
    node.clock.run_for(3000)
    return node


def decay(node: Node, segment: int, batch_bytes_in: int = HEADER_BYTES + 20) -> int:
    """One bit in the contents of a closed segment's second batch; that batch's offset."""
    path = node.partition.log.segments[segment].path()
    inode = node.files.open(path).inode
    second = 12 + int.from_bytes(inode.content[8:12], "big")
    for content in (inode.content, inode.durable):
        content[second + batch_bytes_in] ^= 4
    return int.from_bytes(inode.content[second : second + 8], "big")


def restarted(node: Node) -> Node:
    node.kill()
    assert node.partition.state is State.ONLINE
    return node


@pytest.mark.parametrize("restart", [Node.kill, Node.crash])
def test_of_a_single_replica_only_the_damaged_batch_cannot_be_read(restart: Callable[[Node], None]) -> None:
    node = filled()
    bad = decay(node, 2)
    restart(node)
    with pytest.raises(ApiError) as caught:
        node.read_all()
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE
    assert "is damaged at byte" in str(caught.value)
    before = node.read(bad - 1)
    assert before.next_offset == bad  # whatever lies before it is given, though more was asked for
    assert sum(map(len, before.buffers)) > 0
    assert node.read(bad + 1).next_offset > bad + 1
    assert node.partition.state is State.ONLINE
    _, ack = node.append(make_batch([b"one more"]))
    node.settle()
    assert ack.code is ErrorCode.NONE


def test_a_leader_leaves_the_partition_to_replicas_that_have_it_whole() -> None:
    node = filled()
    bad = decay(node, 2)
    restarted(node)
    lead(node, 1)
    with pytest.raises(ApiError) as caught:
        node.read(bad)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert node.partition.state is State.OFFLINE


@pytest.mark.parametrize("restart", [Node.kill, Node.crash])
def test_damage_that_was_found_is_known_to_the_next_start_unless_the_replica_counts(
    restart: Callable[[Node], None],
) -> None:
    """A start reads no contents: the replica would come back, and be in sync, with what it cannot give."""
    node = filled()
    bad = decay(node, 2)
    restarted(node)
    lead(node, 1)
    with pytest.raises(ApiError):
        node.read(bad)
    found = str(node.partition.error)
    node.clock.run_for(1000)
    restart(node)  # it is in sync still, as far as this node knows: the others may be gone
    assert (node.partition.state, node.partition.is_damaged) == (State.ONLINE, False)
    node.is_counted_on = False
    restart(node)
    assert (node.partition.state, node.partition.is_damaged) == (State.OFFLINE, True)  # so it is made anew
    assert str(node.partition.error) == found


def test_what_failed_for_another_reason_is_no_damage_at_the_next_start() -> None:
    node = filled()
    restarted(node)
    lead(node, 1)
    node.partition.damaged(OSError(errno.EIO, "Input/output error"))
    node.clock.run_for(1000)
    node.is_counted_on = False
    restarted(node)


def test_a_leader_that_alone_is_in_sync_goes_on() -> None:
    node = filled()
    bad = decay(node, 2)
    restarted(node)
    lead(node, 1, isr=(ME,))
    with pytest.raises(ApiError) as caught:
        node.read(bad)
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE
    assert node.partition.state is State.ONLINE


def test_a_compaction_that_finds_damage_takes_a_follower_out_of_service() -> None:
    node = filled(cleanup_compact=True)
    decay(node, 1)
    restarted(node)
    follow(node, 1)
    node.clock.run_for(3000)
    node.manager.compact()
    node.clock.run_until(lambda: not node.partition.compacting)
    assert node.partition.state is State.OFFLINE


def moved(node: Node, segment: int, place: int, change: int) -> int:
    """The base offset of a closed segment's batch becomes another one, as no CRC covers it; what it was."""
    position, header = headers_of(node, segment)[place]
    inode = node.files.open(node.partition.log.segments[segment].path()).inode
    for content in (inode.content, inode.durable):
        content[position : position + 8] = (header.base_offset + change).to_bytes(8, "big", signed=True)
    return header.base_offset


@pytest.mark.parametrize(("change", "max_bytes"), [(8, 700), (-8, 700), (1 << 40, 700), (-(1 << 63), 700), (1, 2000)])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_batch_whose_base_offset_decayed_is_no_end_of_the_log(place: int, change: int, max_bytes: int) -> None:
    """It becomes that of another batch of the log, or one that there is not."""
    node = restarted(filled())
    bad = moved(node, 2, place, change)
    seen, offset = [], 0
    with pytest.raises(ApiError) as caught:
        while offset < COUNT:
            result = node.read(offset, max_bytes)
            assert result.next_offset > offset
            seen += [header.base_offset for buffer in result.buffers for _, header in iterate_headers(bytes(buffer))]
            offset = result.next_offset
    assert caught.value.code is ErrorCode.CORRUPT_MESSAGE
    assert seen == list(range(offset))
    assert bad - 1 <= offset <= bad
    assert node.partition.state is State.ONLINE


def test_a_leader_leaves_a_batch_with_a_wrong_base_offset_to_replicas_that_have_it_whole() -> None:
    node = restarted(filled())
    bad = moved(node, 2, 1, 1 << 40)
    lead(node, 1)
    with pytest.raises(ApiError) as caught:
        node.read(bad)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert node.partition.state is State.OFFLINE


@pytest.mark.interpreted
def test_whoever_reads_on_from_the_start_checks_each_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    node = filled()
    restarted(node)
    checked: list[int] = []

    def count(batches: Buffer, path: str, position: int, *_: int) -> None:
        checked.append(position)

    monkeypatch.setattr("ottla.partitions.log_reader.check", count)
    node.read_all()
    once = len(checked)
    assert once >= len(node.partition.log.segments) - 1
    node.read_all()
    assert len(checked) == once


@pytest.mark.interpreted
def test_what_this_process_wrote_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = filled()

    def never(*_: object) -> None:
        raise AssertionError("it was checked when it came")

    monkeypatch.setattr("ottla.partitions.log_reader.check", never)
    assert len(node.read_all()) == COUNT


def stopped(node: Node) -> None:
    """Stopped in order, and started again."""
    node.stop()
    node.start()


def cut(node: Node, segment: int, batches: int) -> None:
    """So many batches off the end of a closed segment, exactly between two of them."""
    path = node.partition.log.segments[segment].path()
    inode = node.files.open(path).inode
    starts = [position for position, _ in iterate_headers(bytes(inode.content))]
    for content in (inode.content, inode.durable):
        del content[starts[-batches] :]


def compacted() -> Node:
    """Closed segments end before the next one begins, as their last records had later values."""
    node = filled(cleanup_compact=True)
    node.manager.compact()
    node.clock.run_until(lambda: not node.partition.compacting)
    node.clock.run_for(3000)
    return node


@pytest.mark.parametrize("make", [filled, compacted])
@pytest.mark.parametrize("restart", [Node.kill, Node.crash, stopped])
@pytest.mark.parametrize("batches", [1, 2])
def test_a_closed_segment_that_ends_too_early_is_noticed_at_the_start(
    make: Callable[[], Node], restart: Callable[[Node], None], batches: int
) -> None:
    node = make()
    segments = node.partition.log.segments
    assert len(segments) > 2
    number = max(n for n, one in enumerate(segments[:-1]) if len(headers_of(node, n)) >= batches)
    path = segments[number].path()
    cut(node, number, batches)
    restart(node)
    assert node.partition.state is State.OFFLINE
    assert path in str(node.partition.error)
    assert "ends before offset" in str(node.partition.error)


@pytest.mark.parametrize("make", [filled, compacted])
@pytest.mark.parametrize("restart", [Node.kill, Node.crash, stopped])
def test_a_closed_segment_that_ends_within_its_last_batch_is_noticed_at_the_start(
    make: Callable[[], Node], restart: Callable[[Node], None]
) -> None:
    """Its header is there, where the index says; with large batches most cuts are such."""
    node = make()
    path = next(one.path() for one in node.partition.log.segments if one.size)
    inode = node.files.open(path).inode
    size = len(inode.content)
    for content in (inode.content, inode.durable):
        del content[size - 1 :]
    restart(node)
    assert node.partition.state is State.OFFLINE
    assert path in str(node.partition.error)


@pytest.mark.parametrize("make", [filled, compacted])
@pytest.mark.parametrize("restart", [Node.kill, Node.crash, stopped])
def test_closed_segments_that_are_whole_are_taken(make: Callable[[], Node], restart: Callable[[Node], None]) -> None:
    node = make()
    before = node.read_all()
    restart(node)
    assert node.partition.state is State.ONLINE
    assert node.read_all() == before


@pytest.mark.parametrize("bit", range(64))
def test_a_bit_of_an_index_that_flips_damages_no_segment(bit: int) -> None:
    """Its last entry may then say anything; the segment itself is whole, and no worse than before."""
    node = filled()
    before = node.read_all()
    inode = node.files.open(node.partition.log.segments[1].path(INDEX_SUFFIX)).inode
    for content in (inode.content, inode.durable):
        content[len(content) - 8 + bit // 8] ^= 1 << bit % 8
    node.kill()
    assert node.partition.state is State.ONLINE
    assert node.read_all() == before


@pytest.mark.parametrize("byte", [n for n in range(HEADER_BYTES) if n not in LEADER_EPOCH])
def test_a_header_that_decayed_ends_no_start_and_misleads_no_reader(byte: int) -> None:
    """Without an index headers are walked; the CRC covers neither offsets nor lengths."""
    node = filled()
    before = node.read_all()
    closed = node.partition.log.segments[1]
    index = node.files.open(closed.path(INDEX_SUFFIX)).inode
    log = node.files.open(closed.path()).inode
    second = headers_of(node, 1)[1][0]
    for content in (index.content, index.durable):
        content.clear()
    for content in (log.content, log.durable):
        content[second + byte] ^= 0x40
    node.kill()
    if node.partition.state is State.ONLINE:
        with contextlib.suppress(ApiError):
            assert node.read_all() == before
    else:
        assert closed.path() in str(node.partition.error)


def headers_of(node: Node, segment: int) -> list[tuple[int, BatchHeader]]:
    inode = node.files.open(node.partition.log.segments[segment].path()).inode
    return list(iterate_headers(bytes(inode.content)))
