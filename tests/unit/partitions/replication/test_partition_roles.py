"""What a partition does as one of several replicas, on a simulated disk."""

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.partitions.config import LogConfig
from ottla.partitions.replication.anew import start_anew
from ottla.partitions.replication.follower import Step
from ottla.partitions.replication.following import Following
from ottla.partitions.replication.leading import Leading
from ottla.partitions.replication.throttle import Throttle
from ottla.partitions.replication.types import Assignment
from ottla.partitions.write_job import FORGET_FROM_BYTES
from ottla.records.header import patch_base_offset
from ottla.testing.sim.files import SimFile
from tests.sim.log_harness import TOPIC, TOPIC_ID, Ack, Node, make_batch

ME, A, B = NodeId(1), NodeId(2), NodeId(3)
CONFIG = LogConfig(segment_bytes=2000, index_interval_bytes=200, retention_ms=-1, min_insync_replicas=2)
COMPACTED = LogConfig(segment_bytes=2000, retention_ms=-1, cleanup_compact=True, cleanup_delete=False)


def assignment(epoch: int, isr: tuple[NodeId, ...] = (ME, A, B), partition_epoch: int = 1) -> Assignment:
    return Assignment(
        topic=TOPIC, topic_id=TOPIC_ID, index=0, leader=ME, leader_epoch=epoch, replicas=(ME, A, B), isr=isr,
        partition_epoch=partition_epoch,
    )  # fmt: skip


def lead(node: Node, epoch: int, isr: tuple[NodeId, ...] = (ME, A, B)) -> Leading:
    leading = Leading(
        node.partition,
        assignment(epoch, isr),
        node=ME,
        lag_time_max_ms=1000.0,
        broker_epochs={ME: 1, A: 2, B: 3},
        clock=node.clock,
        propose_soon=lambda _: None,
    )
    node.partition.become_leader(epoch, leading)
    for other, broker_epoch in ((A, 2), (B, 3)):
        leading.state.subscribed(other, broker_epoch)
    return leading


class FakeLink:
    """A connection that stands, and what it is asked to tell."""

    online = True

    def __init__(self) -> None:
        self.told: list[int] = []

    def subscribe(self, following: Following) -> int:
        del following
        return 0

    def unsubscribe(self, slot: int) -> None: ...

    def durable_soon(self, following: Following) -> None:
        self.told.append(following.synced_end_offset)


def follow(node: Node, epoch: int, link: FakeLink | None = None) -> Following:
    following = Following(node.partition, node.clock)
    node.partition.become_follower(epoch, following)
    following.follow(A, epoch, link)
    return following


def replicated(base_offset: int, epoch: int, count: int = 1, *, value: bytes = b"value", **fields: int) -> memoryview:
    batch = bytearray(make_batch([value] * count, keys=[b"k"] * count, **fields))
    patch_base_offset(batch, 0, base_offset, epoch)
    return memoryview(batch)


def fill(node: Node, epoch: int, start: int, end: int) -> None:
    for offset in range(start, end):
        node.partition.append_replicated(replicated(offset, epoch))
    node.settle()


# -- leading


def test_an_acknowledgement_waits_for_every_member_of_the_isr() -> None:
    node = Node(1, CONFIG)
    leading = lead(node, 1)
    _, ack = node.append(make_batch([b"a"]))
    node.settle()
    leading.reported(A, 1, 1, 0)
    assert (ack.code, node.partition.high_watermark) == (None, 0)
    leading.reported(B, 1, 1, 0)
    assert (ack.code, node.partition.high_watermark) == (ErrorCode.NONE, 1)


def test_one_acknowledgement_waits_for_nobody_else() -> None:
    node = Node(1, CONFIG)
    lead(node, 1)
    _, ack = node.append(make_batch([b"a"]), acks=1)
    node.settle()
    assert (ack.code, node.partition.high_watermark) == (ErrorCode.NONE, 0)


def test_too_small_an_isr_refuses_before_the_append_and_only_acks_all() -> None:
    node = Node(1, CONFIG)
    lead(node, 1, isr=(ME,))
    with pytest.raises(ApiError) as caught:
        node.append(make_batch([b"a"]))
    assert caught.value.code is ErrorCode.NOT_ENOUGH_REPLICAS
    assert node.partition.log_end_offset == 0
    _, ack = node.append(make_batch([b"a"]), acks=1)
    node.settle()
    assert ack.code is ErrorCode.NONE


def test_an_isr_that_shrinks_below_the_minimum_sends_away_who_waits() -> None:
    node = Node(1, CONFIG)
    leading = lead(node, 1)
    _, ack = node.append(make_batch([b"a"]))
    node.settle()
    leading.committed(assignment(1, isr=(ME,), partition_epoch=2))
    assert ack.code is ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND


def test_a_raised_minimum_counts_at_once() -> None:
    node = Node(1, LogConfig(min_insync_replicas=1))
    leading = lead(node, 1, isr=(ME,))
    assert leading.has_enough_replicas
    node.partition.update_config(CONFIG)
    assert not leading.has_enough_replicas


def test_who_waits_is_sent_away_when_leadership_is_lost() -> None:
    node = Node(1, CONFIG)
    lead(node, 1)
    _, ack = node.append(make_batch([b"a"]))
    written = Ack()
    node.partition.append(memoryview(bytearray(make_batch([b"b"]))), acks=1, done=written)
    moved: list[bool] = []
    node.partition.add_watcher(lambda: moved.append(True))
    follow(node, 2)
    assert (ack.code, written.code) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert moved, "fetches that wait look again, and find that there is another leader"
    with pytest.raises(ApiError) as caught:
        node.append(make_batch([b"c"]))
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_a_leader_that_steps_aside_sends_clients_away_and_leads_its_followers_still() -> None:
    node = Node(1, CONFIG)
    leading = lead(node, 1)
    _, ack = node.append(make_batch([b"a"]))
    node.partition.step_aside()
    assert ack.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
    with pytest.raises(ApiError) as caught:
        node.append(make_batch([b"b"]))
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
    node.settle()
    for other in (A, B):
        leading.reported(other, 1, 1, 0)
    assert node.partition.high_watermark == 1
    node.partition.step_back()
    _, ack = node.append(make_batch([b"c"]))
    node.settle()
    for other in (A, B):
        leading.reported(other, 2, 2, 0)
    assert ack.code is ErrorCode.NONE


def test_who_stepped_aside_does_not_step_back_into_what_another_leads() -> None:
    node = Node(1, CONFIG)
    lead(node, 1)
    node.partition.step_aside()
    follow(node, 2)
    node.partition.step_back()
    with pytest.raises(ApiError):
        node.append(make_batch([b"a"]))


def test_a_new_leader_writes_under_its_own_epoch() -> None:
    node = Node(1, CONFIG)
    follow(node, 1)
    fill(node, 1, 0, 3)
    leading = lead(node, 4)
    assert node.partition.epochs.entries == [(1, 0), (4, 3)]
    assert leading.state.epoch_start_offset == 3
    node.append(make_batch([b"a"]))
    assert node.partition.epochs.entries == [(1, 0), (4, 3)]
    assert not node.partition.latest_is_known


def test_an_epoch_that_was_led_without_a_record_leaves_no_trace() -> None:
    node = Node(1, CONFIG)
    follow(node, 1)
    fill(node, 1, 0, 3)
    lead(node, 4)
    follow(node, 5)
    fill(node, 1, 3, 4)  # the leader of epoch 5 has more of epoch 1
    fill(node, 5, 4, 5)
    assert node.partition.epochs.entries == [(1, 0), (5, 4)]


# -- following


def test_a_follower_shows_no_more_than_leader_and_log_have() -> None:
    node = Node(1, CONFIG)
    following = follow(node, 1)
    fill(node, 1, 0, 3)
    assert node.partition.high_watermark == 0
    following.offsets(2, 0)
    assert node.partition.high_watermark == 2
    following.offsets(9, 1)
    assert (node.partition.high_watermark, node.partition.log_start_offset) == (3, 1)


def test_what_is_durable_is_told_once_and_also_when_a_subscription_was_under_way() -> None:
    node, link = Node(1, CONFIG, journal_bytes=1 << 16), FakeLink()
    fill(node, 1, 0, 1)  # the segment is there: what follows goes through the journal
    node.clock.run_for(1000)
    following = follow(node, 1, link)
    node.partition.append_replicated(replicated(1, 1))
    node.settle()
    assert link.told == [], "the leader has not accepted yet"
    following.accepted(0, 0)
    assert link.told == [2]
    following.data(replicated(2, 1), 0, 0)
    node.settle()
    assert link.told == [2, 3], "durable in the journal, and written to the segment: one frame"


@pytest.mark.parametrize("offset", [2, 4])
def test_a_batch_that_does_not_follow_is_refused(offset: int) -> None:
    node = Node(1, CONFIG)
    follow(node, 1)
    fill(node, 1, 0, 3)
    with pytest.raises(ApiError, match="where 3 was due"):
        node.partition.append_replicated(replicated(offset, 1))


def test_a_batch_damaged_on_the_way_is_refused() -> None:
    node = Node(1, CONFIG)
    follow(node, 1)
    batch = replicated(0, 1)
    batch[-1] ^= 1
    with pytest.raises(ApiError, match="CRC"):
        node.partition.append_replicated(batch)


def test_gaps_of_a_compacted_log_are_kept_and_survive_a_crash() -> None:
    node = Node(1, COMPACTED)
    follow(node, 1)
    for offset in (0, 7, 8, 30):
        node.partition.append_replicated(replicated(offset, 1))
        node.settle()
        if offset == 7:
            node.clock.run_for(1100)  # a checkpoint: what comes after it is read and judged by a recovery
    assert node.partition.log.durable_end_offset == 31
    node.crash()
    assert node.partition.log_end_offset == 31


def test_a_truncation_rewinds_producers_and_epochs() -> None:
    node = Node(1, CONFIG)
    follow(node, 2)
    for n, epoch in enumerate((1, 1, 2)):
        node.partition.append_replicated(replicated(n, epoch, producer_id=5, producer_epoch=0, base_sequence=n))
    node.settle()
    assert node.call(node.partition.truncate, 2) is None
    assert [producer.last_sequence for producer in node.partition.producers] == [1]
    assert node.partition.epochs.entries == [(1, 0)]


@pytest.mark.parametrize("crash_after_ms", [0, 1, 2, 4, 8, 16, 1000])
def test_a_log_begins_anew_at_a_later_offset_whatever_a_crash_leaves(crash_after_ms: int) -> None:
    node = Node(crash_after_ms, CONFIG, journal_bytes=16_384)
    follow(node, 1)
    fill(node, 1, 0, 60)
    assert len(node.partition.log.segments) > 2
    node.clock.run_for(1100)  # a checkpoint
    results: list[Exception | None] = []
    start_anew(node.partition, 100, results.append)
    node.clock.run_for(crash_after_ms)
    if results:
        assert (node.partition.log_start_offset, node.partition.log_end_offset) == (100, 100)
        fill(node, 1, 100, 103)
    node.crash()
    partition = node.partition
    assert partition.error is None, partition.error
    if results:
        assert (partition.log_start_offset, partition.log_end_offset) == (100, 103)
    else:
        assert (partition.log_start_offset, partition.log_end_offset) in ((0, 60), (100, 100))


def test_a_log_that_began_anew_without_a_record_is_still_there_after_a_crash() -> None:
    """It may be in the ISR by then: elected with an end at 0, it would give offsets a second time."""
    node = Node(1, CONFIG)
    follow(node, 1)
    results: list[Exception | None] = []
    start_anew(node.partition, 100, results.append)
    node.clock.run_until(lambda: bool(results))
    node.crash()
    assert (node.partition.log_start_offset, node.partition.log_end_offset) == (100, 100)


def test_a_start_takes_the_high_watermark_from_its_checkpoint() -> None:
    node = Node(1, CONFIG)
    follow(node, 1)
    fill(node, 1, 0, 10)
    node.partition.start_replicated(4)
    assert node.partition.high_watermark == 4
    node.partition.start_replicated(99)
    assert node.partition.high_watermark == 10


# -- the rate of catching up


def test_a_throttle_keeps_its_rate_over_time() -> None:
    throttle = Throttle(1_000_000)
    now_ms, taken = 0.0, 0
    while now_ms < 10_000:
        wait_ms = throttle.wait_ms(now_ms)
        if wait_ms:
            now_ms += wait_ms
        else:
            throttle.took(300_000)
            taken += 300_000
    assert 9_700_000 <= taken <= 10_700_000


def test_no_rate_is_no_bound() -> None:
    throttle = Throttle()
    throttle.took(1 << 40)
    assert throttle.wait_ms(0.0) == 0.0


def test_a_cut_that_ends_after_the_role_was_ended_follows_nobody() -> None:
    node = Node(1, CONFIG)
    link = FakeLink()
    following = follow(node, 2, link)
    fill(node, 1, 0, 4)
    following.diverged(1, 2)
    assert following.busy
    following.when_idle(lambda: None)
    following.end()
    node.clock.run_until(lambda: not following.busy)
    assert node.partition.log_end_offset == 2
    assert following.state.step is Step.NO_LEADER


# -- the page cache


def test_only_a_follower_of_whom_nobody_reads_lets_go_of_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[tuple[int, int]] = []
    monkeypatch.setattr(SimFile, "forget", lambda _, position, length: forgotten.append((position, length)))
    node = Node(1, LogConfig(retention_ms=-1))
    batch = replicated(0, 1, value=bytes(FORGET_FROM_BYTES))
    lead(node, 1)
    node.append(make_batch([bytes(FORGET_FROM_BYTES)]))
    node.settle()
    assert not forgotten, "consumers come to leaders"
    first, size = node.partition.size_bytes, len(batch)

    follow(node, 2, FakeLink())
    for offset in (1, 2):
        node.partition.append_replicated(replicated(offset, 2, value=bytes(FORGET_FROM_BYTES)))
        node.settle()
    assert forgotten == [(first, size), (first + size, size)]
    fill(node, 2, 3, 4)
    assert len(forgotten) == 2, "a small write is not worth the call"

    node.partition.environment.tail_budget.limit_bytes = 0  # from now on old records are in the files alone
    node.partition.append_replicated(replicated(4, 2))
    node.settle()
    node.read(0)
    forgotten.clear()
    node.partition.append_replicated(replicated(5, 2, value=bytes(FORGET_FROM_BYTES)))
    node.settle()
    assert not forgotten, "a consumer reads from this replica"
