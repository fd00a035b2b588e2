"""The data path of a partition with several replicas: followers answer consumers, the fenced learn (KIP-320, 392)."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.fetch_messages import NO_PREFERENCE, FetchResponse
from ottla.broker.leader_hints import CurrentLeader, LeaderHints
from ottla.broker.list_offsets import list_offsets
from ottla.broker.replica_selector import RackAwareSelector
from ottla.controller.image import BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage
from ottla.core.errors import ErrorCode
from ottla.core.types import ZERO_UUID, NodeId
from ottla.partitions.replication.leading import Leading
from ottla.partitions.replication.types import Assignment
from ottla.protocol.messages import list_offsets_request as requests
from tests.unit.broker.hot_path import EPOCH, ME, HotPath, batch, topic_id, wanted
from tests.unit.broker.one_broker import context

OTHER, THIRD = NodeId(2), NodeId(3)


class Follower:
    """A role that does nothing."""

    has_enough_replicas = True
    latest_is_known = False
    others_have_all = True

    def appended(self) -> None: ...
    def begun_anew(self, offset: int) -> None: ...
    def synced(self, end_offset: int) -> None: ...
    def failed(self) -> None: ...


@pytest.fixture
def broker() -> HotPath:
    """Two records; then another node leads."""
    broker = HotPath({"t": 1})
    broker.append("t", 0, b"a")
    broker.append("t", 0, b"b")
    broker.partition("t").become_follower(EPOCH + 1, Follower())
    return broker


def lead(
    broker: HotPath, *, isr: tuple[NodeId, ...] = (ME, OTHER, THIRD), high_watermark: int | None = None
) -> Leading:
    partition = broker.partition("t")
    if high_watermark is not None:
        partition.high_watermark = high_watermark
    assignment = Assignment(
        topic="t",
        topic_id=topic_id("t"),
        index=0,
        leader=ME,
        leader_epoch=EPOCH + 2,
        replicas=(ME, OTHER, THIRD),
        isr=isr,
        partition_epoch=1,
    )
    leading = Leading(
        partition,
        assignment,
        node=ME,
        lag_time_max_ms=30_000,
        broker_epochs={ME: 1, OTHER: 1, THIRD: 1},
        clock=broker.clock,
        propose_soon=lambda _: None,
    )
    partition.become_leader(EPOCH + 2, leading)
    return leading


def sizes(response: FetchResponse) -> list[tuple[ErrorCode, bool]]:
    return [(one.error, one.size > 0) for one in response.partitions]


@pytest.mark.parametrize("rack", ["", "r1"])
def test_a_follower_answers_consumers_that_may_read_there(broker: HotPath, rack: str) -> None:
    assert sizes(broker.fetch_now([wanted("t")], rack=rack)) == [(ErrorCode.NONE, True)]
    assert sizes(broker.fetch_now([wanted(topic_id("t"))], rack=rack)) == [(ErrorCode.NONE, True)]


def test_older_consumers_read_from_leaders_only(broker: HotPath) -> None:
    assert sizes(broker.fetch_now([wanted("t")])) == [(ErrorCode.NOT_LEADER_OR_FOLLOWER, False)]


@pytest.mark.parametrize("rack", [None, ""])
@pytest.mark.parametrize(
    ("epoch", "error"),
    [(EPOCH, ErrorCode.FENCED_LEADER_EPOCH), (EPOCH + 2, ErrorCode.UNKNOWN_LEADER_EPOCH)],
)
def test_the_epoch_is_judged_first(broker: HotPath, epoch: int, error: ErrorCode, rack: str | None) -> None:
    assert sizes(broker.fetch_now([wanted("t", epoch=epoch)], rack=rack)) == [(error, False)]


def test_a_consumer_waits_at_the_end_of_a_follower(broker: HotPath) -> None:
    responses, waiting = broker.start_fetch([wanted("t", offset=2)], rack="", min_bytes=1, max_wait_ms=60_000)
    assert waiting is not None
    record = batch(b"c")
    record[0:8] = (2).to_bytes(8, "big")
    broker.partition("t").append_replicated(record)
    broker.clock.run_for(100)
    assert not responses  # not committed, as far as this replica knows
    broker.partition("t").advance(3)
    broker.clock.run_until(lambda: bool(responses))
    assert sizes(responses[0]) == [(ErrorCode.NONE, True)]


@pytest.mark.parametrize(("offset", "error"), [(2, ErrorCode.NONE), (3, ErrorCode.OFFSET_OUT_OF_RANGE)])
def test_what_a_follower_does_not_have_is_out_of_its_range(broker: HotPath, offset: int, error: ErrorCode) -> None:
    broker.partition("t").high_watermark = 1
    assert sizes(broker.fetch_now([wanted("t", offset=offset)], rack="")) == [(error, False)]


def test_a_new_leader_ends_the_wait_of_who_knows_the_old_epoch(broker: HotPath) -> None:
    responses, _ = broker.start_fetch(
        [wanted("t", offset=2, epoch=EPOCH + 1)], rack="", min_bytes=1, max_wait_ms=60_000
    )
    lead(broker)
    broker.clock.run_until(lambda: bool(responses))
    assert sizes(responses[0]) == [(ErrorCode.FENCED_LEADER_EPOCH, False)]


def image(**racks: str) -> MetadataImage:
    brokers = {
        NodeId(int(name[1:])): BrokerImage(
            NodeId(int(name[1:])), 1, ZERO_UUID, {"PLAINTEXT": Endpoint(name, 9092)}, rack=rack
        )
        for name, rack in racks.items()
    }
    topic = TopicImage("t", topic_id("t"), (PartitionImage(0, OTHER, 7, (ME, OTHER), (ME, OTHER)),))
    return MetadataImage(topics={"t": topic}, topics_by_id={topic.id: topic}, brokers=brokers)


def select(broker: HotPath) -> None:
    known = image(n1="a", n2="b", n3="b")
    broker.fetch.select_replica = RackAwareSelector(ME, lambda: known)


def test_a_leader_sends_consumers_to_the_furthest_replica_of_their_rack(broker: HotPath) -> None:
    leading = lead(broker)
    select(broker)
    for node, end in ((OTHER, 1), (THIRD, 2)):
        leading.state.subscribed(node, 1)
        leading.state.reported(node, end, end, 0, 0.0)
    [told] = broker.fetch_now([wanted("t")], rack="b", min_bytes=1, max_wait_ms=60_000).partitions
    assert (told.preferred_replica, told.size, told.high_watermark) == (THIRD, 0, broker.partition("t").high_watermark)
    for rack in ("a", "c", "", None):
        [told] = broker.fetch_now([wanted("t")], rack=rack).partitions
        assert (told.preferred_replica, told.size > 0) == (NO_PREFERENCE, True)
    [told] = broker.fetch_now([wanted("t", offset=3)], rack="b").partitions
    assert told.error == ErrorCode.OFFSET_OUT_OF_RANGE  # no replica has it


def test_only_replicas_in_sync_are_recommended(broker: HotPath) -> None:
    leading = lead(broker, isr=(ME,))
    select(broker)
    leading.state.subscribed(OTHER, 1)
    leading.state.reported(OTHER, 2, 2, 0, 0.0)
    [told] = broker.fetch_now([wanted("t")], rack="b").partitions
    assert told.preferred_replica == NO_PREFERENCE


async def latest(broker: HotPath, version: int) -> Any:
    request = requests.ListOffsetsRequest(
        topics=[
            requests.ListOffsetsTopic(
                name="t", partitions=[requests.ListOffsetsPartition(partition_index=0, timestamp=-1)]
            )
        ]
    )
    response = await list_offsets(cast(Any, SimpleNamespace(replicas=broker.replicas)), request, context(version))
    return response.topics[0].partitions[0]


async def test_latest_is_unknown_until_the_high_watermark_has_passed_the_epochs_start(broker: HotPath) -> None:
    leading = lead(broker, high_watermark=1)
    assert (await latest(broker, 5)).error_code == ErrorCode.OFFSET_NOT_AVAILABLE
    assert (await latest(broker, 4)).error_code == ErrorCode.LEADER_NOT_AVAILABLE
    for node in (OTHER, THIRD):
        leading.state.subscribed(node, 1)
        leading.reported(node, 2, 2, 0)
    answer = await latest(broker, 5)
    assert (answer.error_code, answer.offset, answer.leader_epoch) == (0, 2, EPOCH + 2)


def test_hints_name_the_leader_and_where_the_client_finds_it() -> None:
    hints = LeaderHints(lambda: image(n1="a", n2="b"), "PLAINTEXT")
    leader = CurrentLeader(OTHER, 7, Endpoint("n2", 9092), "b")
    assert hints("t", 0) == hints(topic_id("t"), 0) == leader
    assert hints("t", 1) is None
    assert hints("u", 0) is None
    assert LeaderHints(lambda: image(n1="a", n2="b"), "OTHER")("t", 0) == CurrentLeader(OTHER, 7, None, "b")
    assert LeaderHints(lambda: image(n1="a"), "PLAINTEXT")("t", 0) == CurrentLeader(OTHER, 7)
