"""What the leader of a mirror topic's partition takes from another cluster, and what it refuses."""

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.partitions.config import LogConfig
from ottla.partitions.mirroring import append_mirrored, begin_at, check_mirror, end_transactions, follow_log_start
from ottla.partitions.results import Isolation
from ottla.partitions.verification import NO_GUARD
from ottla.records.compression import Compression
from ottla.records.header import patch_base_offset, read_header
from ottla.testing.sim.disk import SimDisk
from tests.sim.log_harness import Ack, Node, make_batch
from tests.unit.partitions.replication.test_partition_roles import A, B, lead
from tests.unit.partitions.replication.test_transcripts import Pair

SOURCE = "cluster/topic/orders"
MIRROR = LogConfig(segment_bytes=2000, retention_ms=-1, mirror_source=SOURCE)
PROMOTING = LogConfig(segment_bytes=2000, retention_ms=-1, mirror_source=SOURCE, mirror_promoting=True)
COMPACTED = LogConfig(segment_bytes=2000, cleanup_compact=True, cleanup_delete=False, mirror_source=SOURCE)


@pytest.fixture
def source() -> Node:
    """A node of another cluster, whose partition is mirrored."""
    node = Node(7, LogConfig(segment_bytes=2000, retention_ms=-1))
    node.append(make_batch([b"one", b"two"], compression=Compression.LZ4, timestamp=5))
    node.append(make_batch([b"three"], producer_id=9, producer_epoch=1, base_sequence=0))
    for producer_id, committed in ((21, True), (22, False)):
        batch = make_batch(
            [b"in a transaction"] * 2, producer_id=producer_id, producer_epoch=3, base_sequence=0, is_transactional=True
        )
        node.append_transactional(batch)
        node.end_transaction(producer_id, 4, committed=committed)
    open_one = make_batch([b"open"], producer_id=23, producer_epoch=0, base_sequence=0, is_transactional=True)
    node.append_transactional(open_one)
    node.settle()
    return node


def mirrored(node: Node, *batches: bytes, at: int | None = None) -> Ack:
    ack = Ack()
    end = node.partition.log_end_offset if at is None else at
    append_mirrored(node.partition, memoryview(bytearray(b"".join(batches))), expected_end_offset=end, done=ack)
    return ack


def refusal(node: Node, *batches: bytes, at: int | None = None) -> ErrorCode:
    end = node.partition.log_end_offset
    with pytest.raises(ApiError) as caught:
        mirrored(node, *batches, at=at)
    assert node.partition.log_end_offset == end
    return caught.value.code


def placed(offset: int, value: bytes = b"value", epoch: int = 30) -> bytes:
    batch = bytearray(make_batch([value], keys=[b"k"]))
    patch_base_offset(batch, 0, offset, epoch)
    return bytes(batch)


def without_epoch(batch: bytes) -> bytes:
    return batch[:12] + batch[16:]


def test_a_mirrored_log_is_the_source_but_for_the_leader_epoch(source: Node) -> None:
    target = Node(1, MIRROR)
    target.partition.leader_epoch = 4
    originals = source.read_all()
    ack = mirrored(target, *originals)
    target.settle()
    assert ack.code is ErrorCode.NONE
    copies = target.read_all()
    assert list(map(without_epoch, copies)) == list(map(without_epoch, originals))
    assert {read_header(copy).partition_leader_epoch for copy in copies} == {4}
    assert target.partition.high_watermark == source.partition.high_watermark
    assert target.partition.last_stable_offset == source.partition.last_stable_offset
    assert target.partition.aborted == source.partition.aborted
    assert {(one.producer_id, one.epoch, one.last_sequence) for one in target.partition.producers} == {
        (one.producer_id, one.epoch, one.last_sequence) for one in source.partition.producers
    }


@pytest.mark.parametrize("crash_after_ms", [0, 3, 2000])
def test_what_is_acknowledged_survives_a_crash_with_producers_and_aborted_ones(
    source: Node, crash_after_ms: int
) -> None:
    target = Node(1, MIRROR)
    ack = mirrored(target, *source.read_all())
    target.clock.run_for(crash_after_ms)
    was_acknowledged = ack.code is ErrorCode.NONE
    target.crash()
    assert target.partition.error is None
    if was_acknowledged:
        assert list(map(without_epoch, target.read_all())) == list(map(without_epoch, source.read_all()))
        assert target.partition.aborted == source.partition.aborted
    rest = [one for one in source.read_all() if read_header(one).base_offset >= target.partition.log_end_offset]
    mirrored(target, *rest)
    target.settle()
    assert target.partition.log_end_offset == source.partition.log_end_offset


def test_nobody_else_may_write_a_mirror() -> None:
    node = Node(1, MIRROR)
    with pytest.raises(ApiError, match="`ottla mirror promote`") as caught:
        node.append(make_batch([b"a"]))
    assert caught.value.code is ErrorCode.POLICY_VIOLATION
    assert "orders in cluster cluster" in caught.value.message
    with pytest.raises(ApiError) as caught:
        node.partition.admit(5, 0, 0, adds=True, resume=lambda code, guard: None)
    assert caught.value.code is ErrorCode.POLICY_VIOLATION
    node.partition.update_config(LogConfig())
    node.append(make_batch([b"a"]), guard=NO_GUARD)


def test_two_mirrors_of_one_partition_cannot_repeat_or_leave_out_anything() -> None:
    node = Node(1, MIRROR)
    mirrored(node, placed(0), placed(1))
    assert refusal(node, placed(0), placed(1), at=0) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert refusal(node, placed(1), placed(2), at=1) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert refusal(node, placed(5), at=5) is ErrorCode.OFFSET_OUT_OF_RANGE
    mirrored(node, placed(2), at=2)
    assert node.partition.log_end_offset == 3


def test_what_is_damaged_or_does_not_follow_is_refused_whole() -> None:
    node = Node(1, MIRROR)
    flipped = bytearray(placed(1))
    flipped[-1] ^= 1
    assert refusal(node, placed(0), bytes(flipped)) is ErrorCode.CORRUPT_MESSAGE
    assert refusal(node, placed(0), placed(0)) is ErrorCode.CORRUPT_MESSAGE
    assert refusal(node, placed(0), placed(1)[:-1]) is ErrorCode.CORRUPT_MESSAGE
    assert refusal(node, placed(0), placed(1)[:20]) is ErrorCode.CORRUPT_MESSAGE
    assert refusal(node, placed(0), placed(2)) is ErrorCode.INVALID_RECORD
    assert refusal(node, placed(2)) is ErrorCode.INVALID_RECORD
    control = bytearray(make_batch([b"no marker"], producer_id=1, producer_epoch=0, is_control=True))
    assert refusal(node, bytes(control)) is ErrorCode.CORRUPT_MESSAGE


def test_gaps_of_compaction_are_kept() -> None:
    node = Node(1, COMPACTED)
    mirrored(node, placed(0), placed(3))
    mirrored(node, placed(9), at=4)
    node.settle()
    node.crash()
    assert [read_header(batch).base_offset for batch in node.read_all()] == [0, 3, 9]


def test_which_source_and_state_are_checked() -> None:
    node = Node(1, MIRROR)
    check_mirror(node.partition, SOURCE)
    for config, source, promoting, code in (
        (MIRROR, "cluster/other/orders", False, ErrorCode.POLICY_VIOLATION),
        (LogConfig(), SOURCE, False, ErrorCode.POLICY_VIOLATION),
        (PROMOTING, SOURCE, False, ErrorCode.POLICY_VIOLATION),
        (MIRROR, SOURCE, True, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ):
        node.partition.update_config(config)
        with pytest.raises(ApiError) as caught:
            check_mirror(node.partition, source, promoting=promoting)
        assert caught.value.code is code
    node.partition.is_leader = False
    with pytest.raises(ApiError) as caught:
        check_mirror(node.partition, SOURCE)
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize("before", [0, 2])
def test_a_mirror_begins_where_its_source_does(before: int) -> None:
    node = Node(1, MIRROR)
    if before:
        mirrored(node, placed(0), placed(1))
        node.settle()
    begun = Ack()
    begin_at(node.partition, 3_000_000_000, expected_end_offset=before, done=begun)
    assert refusal(node, placed(before), at=before) is ErrorCode.LEADER_NOT_AVAILABLE
    node.clock.run_until(lambda: begun.code is not None)
    assert begun.code is ErrorCode.NONE
    ack = mirrored(node, placed(3_000_000_000), at=3_000_000_000)
    node.settle()
    assert ack.code is ErrorCode.NONE
    node.crash()
    partition = node.partition
    assert (partition.log_start_offset, partition.log_end_offset) == (3_000_000_000, 3_000_000_001)
    with pytest.raises(ApiError):
        begin_at(partition, 3_000_000_001, expected_end_offset=3_000_000_001, done=Ack())


def test_nothing_is_appended_nor_promoted_while_a_mirror_begins_anew() -> None:
    """What came into the old log would go with it, though it is acknowledged."""
    node = Node(1, MIRROR)
    mirrored(node, placed(0), placed(1))
    node.settle()
    begun = Ack()
    begin_at(node.partition, 500, expected_end_offset=2, done=begun)
    node.partition.update_config(PROMOTING)
    with pytest.raises(ApiError) as caught:
        check_mirror(node.partition, SOURCE, promoting=True)
    assert caught.value.code is ErrorCode.LEADER_NOT_AVAILABLE
    node.partition.update_config(LogConfig())
    with pytest.raises(ApiError) as caught:
        node.append(make_batch([b"a client's"]))
    assert caught.value.code is ErrorCode.LEADER_NOT_AVAILABLE
    node.clock.run_until(lambda: begun.code is not None)
    appended, _ = node.append(make_batch([b"a client's"]))
    assert appended.base_offset == 500


def test_a_leader_deposed_while_its_log_begins_anew_keeps_what_its_successor_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counts as a replica that has it."""
    pair = Pair(monkeypatch)
    pair.lead(1, epoch=1)
    old, new = pair.partitions
    for partition in pair.partitions:
        partition.update_config(MIRROR)
    append_mirrored(old, memoryview(bytearray(placed(0))), expected_end_offset=0, done=Ack())
    pair.world.run_for(0.1)
    disk = old.environment.disk
    assert isinstance(disk, SimDisk)
    disk.slowest_ms = 50.0
    begin_at(old, 500, expected_end_offset=1, done=Ack())
    pair.lead(2, epoch=2, for_s=0)
    with pytest.raises(ApiError):
        check_mirror(old, SOURCE)  # whoever comes is sent to the new leader
    for offset in range(1, 10):
        ack = Ack()
        append_mirrored(new, memoryview(bytearray(placed(offset))), expected_end_offset=offset, done=ack)
        pair.world.run_for(0.005)
    pair.world.run_for(1)
    assert ack.code is ErrorCode.NONE
    assert (old.log_end_offset, old.high_watermark) == (10, 10)


def test_followers_of_a_mirror_that_begins_anew_are_sent_back_to_begin_there_too() -> None:
    node = Node(1, MIRROR)
    leading = lead(node, 1)
    told: list[ErrorCode] = []

    class Reader:
        def grown(self) -> None: ...
        def moved(self) -> None: ...
        def end(self, code: ErrorCode) -> None:
            told.append(code)

    for other, broker_epoch in ((A, 2), (B, 3)):
        leading.subscribe(other, broker_epoch, 0, -1, 0, Reader())
        leading.reported(other, 0, 0, 0)
    begun = Ack()
    begin_at(node.partition, 500, expected_end_offset=0, done=begun)
    node.clock.run_until(lambda: begun.code is not None)
    assert told == [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 2
    assert (node.partition.high_watermark, leading.state.high_watermark) == (500, 500)
    answer = leading.subscribe(A, 2, 0, -1, 500, Reader())
    assert getattr(answer, "offset", None) == 500
    ack = mirrored(node, placed(500), at=500)
    node.settle()
    for other in (NodeId(2), NodeId(3)):
        assert ack.code is None
        leading.reported(other, 501, 501, 500)
    assert ack.code is ErrorCode.NONE


def test_the_log_start_of_the_source_is_followed_as_far_as_it_is_committed() -> None:
    node = Node(1, MIRROR)
    mirrored(node, placed(0), placed(1), placed(2))
    node.settle()
    follow_log_start(node.partition, 2)
    assert node.partition.log_start_offset == 2
    follow_log_start(node.partition, 1)
    assert node.partition.log_start_offset == 2
    follow_log_start(node.partition, 99)
    assert node.partition.log_start_offset == 3


def test_a_promotion_aborts_what_is_open_once(source: Node) -> None:
    target = Node(1, MIRROR)
    mirrored(target, *source.read_all())
    target.settle()
    end = target.partition.log_end_offset
    assert target.partition.last_stable_offset == end - 1
    target.partition.update_config(PROMOTING)
    for aborted in (1, 0):
        ack = Ack()
        assert end_transactions(target.partition, ack) == aborted
        target.settle()
        assert ack.code is ErrorCode.NONE
        assert target.partition.log_end_offset == end + 1
    assert target.partition.last_stable_offset == end + 1
    result = target.read(0, isolation=Isolation.READ_COMMITTED)
    assert (23, end - 1) in result.aborted
    target.partition.update_config(LogConfig())
    appended, _ = target.append(make_batch([b"goes on"], producer_id=9, producer_epoch=1, base_sequence=1))
    assert appended.base_offset == end + 1
