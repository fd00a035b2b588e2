from time import process_time

import pytest

from ottla.controller.create_topics import create_topics
from ottla.controller.fencing import fence, give_up, heartbeat, resign
from ottla.controller.image import MetadataImage
from ottla.controller.requests import BrokerHeartbeat, HeartbeatAnswer, NewTopic
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import IdSource, configs, image_of, uuid
from tests.unit.controller.states import TOPIC_ID, brokers, change, changes, fenced, holding, partition

ONE, TWO = NodeId(1), NodeId(2)


def beat(
    node: int = 1, *, ready: bool = True, stop: bool = False, cut: list[tuple[Uuid, int]] | None = None
) -> BrokerHeartbeat:
    return BrokerHeartbeat(
        broker_id=NodeId(node), broker_epoch=node, metadata_offset=9, ready=ready, stop=stop, truncated=cut or []
    )


@pytest.fixture
def image() -> MetadataImage:
    return holding(
        brokers(),
        partition(1, (1, 2, 3)),
        partition(1, (1, 2, 3), index=1),
        partition(2, (2, 1, 3), (2, 3, 1), index=2),
        partition(3, (3, 2), index=3),
        partition(1, (1,), (1,), index=4),
    )


def test_a_fence_is_one_record_for_all_partitions_that_change_alike(image: MetadataImage) -> None:
    decision = fence(image, configs(image), [ONE])
    assert decision.result == [1]
    assert decision.records == [
        changes({TOPIC_ID: [0, 1]}, leader=2, isr=[2, 3]),
        change(2, isr=[2, 3]),
        change(4, leader=-1),
        fenced(1),
    ]


def test_partitions_of_several_topics_share_a_record(image: MetadataImage) -> None:
    image = holding(image, partition(1, (1, 2, 3)), name="b", topic_id=uuid(2))
    assert fence(image, configs(image), [ONE]).records[0] == changes(
        {TOPIC_ID: [0, 1], uuid(2): [0]}, leader=2, isr=[2, 3]
    )


def test_several_brokers_are_fenced_together_and_no_partition_changes_twice(image: MetadataImage) -> None:
    decision = fence(image, configs(image), [TWO, ONE, NodeId(9)])
    assert decision.result == [1, 2]
    assert decision.records == [
        changes({TOPIC_ID: [0, 1]}, leader=3, isr=[3], elr=[1, 2]),
        change(2, leader=3, isr=[3], elr=[2, 1]),
        change(3, isr=[3], elr=[2]),
        change(4, leader=-1),
        fenced(1),
        fenced(2),
    ]


def test_who_is_fenced_already_is_not_fenced_again() -> None:
    image = brokers(fenced=[1])
    assert (fence(image, configs(image), [ONE]).result, fence(image, configs(image), [ONE]).records) == ([], [])


def test_a_broker_is_unfenced_when_it_is_ready_and_knows_its_registration() -> None:
    image = brokers(fenced=[1])
    for early in (
        heartbeat(image, configs(image), beat(ready=False), registered_at=9),
        heartbeat(image, configs(image), beat(), registered_at=10),
    ):
        assert (early.result.fenced, early.records) == (True, [])
    decision = heartbeat(image, configs(image), beat(), registered_at=9)
    assert decision.result == HeartbeatAnswer(fenced=False)
    assert decision.records == [
        pb.MetadataRecord(broker_change=pb.BrokerChangeRecord(broker_id=1, fenced=False, in_controlled_shutdown=False))
    ]
    assert heartbeat(image_of(decision.records, base=image), configs(image), beat(), registered_at=9).records == []


def test_what_waited_for_a_broker_is_led_by_it_when_it_is_back() -> None:
    image = holding(
        brokers(fenced=[1]),
        partition(-1, (1,), elr=(2,)),
        partition(-1, (3,), elr=(1,), index=1),
        partition(-1, (3,), index=2),
        partition(2, (2, 3), index=3),
    )
    image = image_of([fenced(2), fenced(3)], base=image)
    assert heartbeat(image, configs(image), beat(), registered_at=0).records[1:] == [
        change(0, leader=1),
        change(1, leader=1, isr=[1], elr=[3]),
    ]


def test_a_replica_that_was_cut_off_leads_only_where_there_is_no_other() -> None:
    image = holding(
        brokers(fenced=[1, 3]),
        partition(-1, (1, 3)),
        partition(-1, (1,), elr=(3,), index=1),
        partition(-1, (1,), index=2),
        partition(2, (2,), elr=(1, 3), index=3),
        partition(-1, (1, 3), index=4),
    )
    cut = [(TOPIC_ID, index) for index in range(4)]
    assert heartbeat(image, configs(image), beat(cut=cut), registered_at=0).records[1:] == [
        change(0, isr=[3], last_known_elr=[1]),
        change(1, isr=[3], elr=[], last_known_elr=[1]),
        change(2, leader=1),
        change(3, elr=[3], last_known_elr=[1]),
        change(4, leader=1, isr=[1], elr=[3]),
    ]


def test_controlled_shutdown_moves_leaderships_and_says_when_there_are_none_left(image: MetadataImage) -> None:
    decision = heartbeat(image, configs(image), beat(stop=True), registered_at=0)
    assert decision.records == [
        changes({TOPIC_ID: [0, 1]}, leader=2, isr=[2, 3]),
        change(2, isr=[2, 3]),
        change(4, leader=-1),
        pb.MetadataRecord(broker_change=pb.BrokerChangeRecord(broker_id=1, in_controlled_shutdown=True)),
    ]
    assert decision.result.may_stop
    stopping = image_of(decision.records, base=image)
    again = heartbeat(stopping, configs(stopping), beat(stop=True), registered_at=0)
    assert (again.records, again.result.may_stop) == ([], True)
    # Whatever becomes leaderless now does not come back to it.
    assert NodeId(1) not in stopping.active_brokers


def test_the_last_broker_stops_without_leaving_the_isr() -> None:
    image = holding(brokers(1), partition(1, (1,), (1,)))
    assert heartbeat(image, configs(image), beat(stop=True), registered_at=0).records[0] == change(leader=-1)


def test_a_stalled_broker_resigns_where_another_replica_is_in_sync(image: MetadataImage) -> None:
    decision = resign(image, configs(image), ONE, 1)
    assert decision.result == 1  # the partition that nobody else has
    assert decision.records == [changes({TOPIC_ID: [0, 1]}, leader=2, isr=[2, 3]), change(2, isr=[2, 3])]
    assert ONE in image_of(decision.records, base=image).active_brokers


def test_replicas_whose_files_failed_are_led_by_others_unless_nobody_else_has_everything(image: MetadataImage) -> None:
    decision = give_up(image, configs(image), ONE, 1, {(TOPIC_ID, 0), (TOPIC_ID, 4)})
    assert decision.records == [change(leader=2, isr=[2, 3])]
    after = image_of(decision.records, base=image)
    assert give_up(after, configs(after), ONE, 1, {(TOPIC_ID, 0), (TOPIC_ID, 4)}).records == []


@pytest.mark.parametrize(
    ("node", "epoch", "expected"),
    [(1, 2, ErrorCode.STALE_BROKER_EPOCH), (9, 1, ErrorCode.BROKER_ID_NOT_REGISTERED)],
)
def test_old_incarnations_and_strangers_are_refused(
    image: MetadataImage, node: int, epoch: int, expected: ErrorCode
) -> None:
    message = BrokerHeartbeat(broker_id=NodeId(node), broker_epoch=epoch, metadata_offset=9)
    with pytest.raises(ApiError) as caught:
        heartbeat(image, configs(image), message, registered_at=0)
    assert caught.value.code is expected
    with pytest.raises(ApiError) as caught:
        resign(image, configs(image), NodeId(node), epoch)
    assert caught.value.code is expected


def test_a_fence_that_touches_ten_thousand_partitions_takes_milliseconds_and_a_few_bytes_for_each() -> None:
    image = brokers()
    new = [NewTopic(name=f"t{number}", partitions=100, replication_factor=3) for number in range(100)]
    image = image_of(create_topics(image, configs(image), new, IdSource()).records, base=image)
    took_ms = []
    for _ in range(5):
        began = process_time()
        decision = fence(image, configs(image), [ONE])
        data = pb.MetadataBatch(records=decision.records).SerializeToString()
        after = image_of(pb.MetadataBatch.FromString(data).records, base=image)
        took_ms.append(1000 * (process_time() - began))
    assert sum(one.leader == 1 for topic in image.topics.values() for one in topic.partitions) in (3333, 3334)
    assert all(one.leader in (2, 3) for topic in after.topics.values() for one in topic.partitions)
    assert len(decision.records) == 5
    assert len(data) < 40_000
    assert min(took_ms) < 100  # 20 ms where it was written
