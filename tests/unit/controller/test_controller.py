import asyncio

import pytest

from ottla.controller.decider import MAX_BATCH_BYTES
from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.controller.replay import NewerMetadata
from ottla.controller.requests import BrokerHeartbeat, IsrChange, NewTopic, TopicRef
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError, StorageError
from ottla.core.types import NodeId
from ottla.raft.quorum import Entry, NotLeader, Overloaded, ProposalLost, Snapshot
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import NODE, registration, started_controller, uuid


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_whoever_asks_is_answered_after_subscribers_saw_the_new_image() -> None:
    controller, quorum = await started_controller(automatic=False)
    seen: list[list[str]] = []

    def subscriber(image: MetadataImage, delta: MetadataDelta) -> None:
        assert controller.image is image
        seen.append([topic.name for topic in delta.created])

    controller.subscribe(subscriber)
    task = asyncio.ensure_future(controller.create_topics([NewTopic(name="a"), NewTopic(name="b")]))
    await turn()
    assert (task.done(), seen, dict(controller.image.topics)) == (False, [], {})
    quorum.commit()
    assert seen == [["a", "b"]]
    assert [topic.error for topic in await task] == [None, None]


async def test_decisions_count_on_those_that_are_still_under_way() -> None:
    controller, quorum = await started_controller(automatic=False)
    first = asyncio.ensure_future(controller.create_topics([NewTopic(name="a")]))
    second = asyncio.ensure_future(controller.create_topics([NewTopic(name="a"), NewTopic(name="b")]))
    third = asyncio.ensure_future(controller.delete_topics([TopicRef(name="a")]))
    await turn()
    assert len(quorum.waiting) == 3
    quorum.commit()
    assert [t.error and t.error.code for t in await second] == [ErrorCode.TOPIC_ALREADY_EXISTS, None]
    assert [t.error for t in await first] == [None]
    assert [t.error for t in await third] == [None]
    assert set(controller.image.topics) == {"b"}


async def test_an_answer_that_rests_on_uncommitted_decisions_waits_for_them() -> None:
    controller, quorum = await started_controller(automatic=False)
    first = asyncio.ensure_future(controller.create_topics([NewTopic(name="a")]))
    await turn()
    second = asyncio.ensure_future(controller.create_topics([NewTopic(name="a")]))
    await turn()
    assert not second.done()
    quorum.commit()
    (existing,) = await second
    assert existing.error is not None
    assert existing.error.code is ErrorCode.TOPIC_ALREADY_EXISTS
    assert "a" in controller.image.topics
    await first


async def test_what_was_proposed_when_leadership_ended_is_forgotten() -> None:
    controller, quorum = await started_controller(automatic=False)
    task = asyncio.ensure_future(controller.create_topics([NewTopic(name="a")]))
    await turn()
    quorum.lose()
    with pytest.raises(ApiError) as caught:
        await task
    assert caught.value.code is ErrorCode.NOT_CONTROLLER
    with pytest.raises(ApiError) as caught:
        await controller.create_topics([NewTopic(name="b")])
    assert caught.value.code is ErrorCode.NOT_CONTROLLER
    quorum.is_leader = quorum.automatic = True
    (created,) = await controller.create_topics([NewTopic(name="a")])
    assert created.error is None


async def test_validate_only_changes_nothing() -> None:
    controller, _ = await started_controller()
    before = controller.image
    (created,) = await controller.create_topics([NewTopic(name="a", partitions=3)], validate_only=True)
    assert (created.error, created.partitions, controller.image is before) == (None, 3, True)
    assert (await controller.create_topics([NewTopic(name="a")]))[0].error is None


async def test_a_snapshot_taken_and_restored_gives_the_same_topics_and_tells_subscribers() -> None:
    controller, _ = await started_controller()
    await controller.create_topics([NewTopic(name="a", partitions=2)])
    encode, offset = controller.snapshot(), controller.image.offset
    await controller.create_topics([NewTopic(name="b")])
    deltas: list[MetadataDelta] = []
    controller.subscribe(lambda image, delta: deltas.append(delta))
    controller.restore(Snapshot(offset + 3, 2, encode()))  # taken when three of the quorum's own entries were applied
    assert (controller.image.offset, controller.image.epoch, set(controller.image.topics)) == (offset, 2, {"a"})
    assert [topic.name for topic in deltas[0].deleted] == ["b"]


async def test_entries_of_another_leader_are_replayed_and_become_the_base_of_decisions() -> None:
    controller, _ = await started_controller()
    batch = pb.MetadataBatch(records=[pb.MetadataRecord(topic=pb.TopicRecord(name="x", topic_id=uuid(5)))])
    controller.apply(Entry(9, 3, batch.SerializeToString()))
    assert controller.image.offset == 9
    (refused,) = await controller.create_topics([NewTopic(name="x")])
    assert refused.error is not None


async def test_an_internal_topic_is_created_once_however_many_ask() -> None:
    controller, quorum = await started_controller(automatic=False)
    asked = [
        asyncio.ensure_future(controller.ensure_internal_topic("__consumer_offsets", partitions=4)) for _ in range(3)
    ]
    await turn()
    quorum.commit()
    topics = await asyncio.gather(*asked)
    assert {topic.id for topic in topics} == {controller.image.topics["__consumer_offsets"].id}
    assert (topics[0].internal, len(topics[0].partitions)) == (True, 4)


async def test_an_internal_topic_that_cannot_be_created_says_why() -> None:
    controller, _ = await started_controller()
    with pytest.raises(ApiError) as caught:
        await controller.ensure_internal_topic("__consumer_offsets", partitions=4, replication_factor=3)
    assert caught.value.code is ErrorCode.INVALID_REPLICATION_FACTOR


@pytest.mark.parametrize(
    ("refusal", "expected", "retriable"),
    [
        (NotLeader(None), ErrorCode.NOT_CONTROLLER, True),
        (ProposalLost(NodeId(2)), ErrorCode.NOT_CONTROLLER, True),
        (Overloaded("too much waits"), ErrorCode.THROTTLING_QUOTA_EXCEEDED, True),
        (StorageError("the disk is gone"), ErrorCode.KAFKA_STORAGE_ERROR, True),
    ],
)
async def test_what_the_quorum_refuses_is_told_in_the_protocols_words_and_taken_back(
    refusal: Exception, expected: ErrorCode, retriable: bool
) -> None:
    controller, quorum = await started_controller()
    quorum.refuse_with = refusal
    with pytest.raises(ApiError) as caught:
        await controller.create_topics([NewTopic(name="a")])
    assert (caught.value.code, caught.value.retriable) == (expected, retriable)
    quorum.refuse_with = None
    (created,) = await controller.create_topics([NewTopic(name="a")])
    assert created.error is None


async def test_a_refused_proposal_leaves_those_before_it_alone() -> None:
    controller, quorum = await started_controller(automatic=False)
    first = asyncio.ensure_future(controller.create_topics([NewTopic(name="a")]))
    await turn()
    quorum.refuse_with = Overloaded("too much waits")
    with pytest.raises(ApiError):
        await controller.create_topics([NewTopic(name="b")])
    quorum.refuse_with = None
    third = asyncio.ensure_future(controller.create_topics([NewTopic(name="a"), NewTopic(name="b")]))
    await turn()
    quorum.commit()
    assert [topic.error and topic.error.code for topic in await third] == [ErrorCode.TOPIC_ALREADY_EXISTS, None]
    await first
    assert set(controller.image.topics) == {"a", "b"}


async def test_many_topics_become_several_entries_each_with_whole_topics() -> None:
    controller, quorum = await started_controller(automatic=False)
    names = [f"{n:0>240}" for n in range(5000)]
    task = asyncio.ensure_future(controller.create_topics([NewTopic(name=name, partitions=2) for name in names]))
    await turn()
    batches = [pb.MetadataBatch.FromString(data) for data, _ in quorum.waiting]
    assert len(batches) == 2
    for (data, _), batch in zip(quorum.waiting, batches, strict=True):
        assert len(data) <= MAX_BATCH_BYTES
        assert batch.records[0].HasField("topic")
    second = asyncio.ensure_future(controller.create_topics([NewTopic(name=names[-1])]))
    await turn()
    quorum.commit()
    assert {topic.error for topic in await task} == {None}
    assert (controller.image.partition_count, set(controller.image.topics)) == (10_000, set(names))
    assert (await second)[0].error is not None


async def test_new_leaders_take_turns_from_topic_to_topic() -> None:
    controller, _ = await started_controller()
    for node in (2, 3):
        await controller.register_broker(registration(node), ready=True)
    for name in "abcdef":
        await controller.create_topics([NewTopic(name=name)])
    leaders = [topic.partitions[0].leader for topic in controller.image.topics.values()]
    assert sorted(leaders) == [1, 1, 2, 2, 3, 3]


async def test_a_broker_registers_becomes_ready_is_fenced_and_asks_to_stop() -> None:
    controller, _ = await started_controller()
    two = NodeId(2)
    epoch = await controller.register_broker(registration(2))
    registered_at = controller.image.offset

    def beat(offset: int, *, stop: bool = False) -> BrokerHeartbeat:
        return BrokerHeartbeat(broker_id=two, broker_epoch=epoch, metadata_offset=offset, stop=stop)

    assert (await controller.heartbeat(beat(registered_at - 1))).fenced
    answer = await controller.heartbeat(beat(registered_at))
    assert not answer.fenced
    await controller.create_topics([NewTopic(name="a", assignments=[(0, [2, 1])])])
    topic = controller.image.topics["a"]

    (altered,) = await controller.alter_partitions(
        two, epoch, [IsrChange(topic_id=topic.id, partition=0, leader_epoch=0, partition_epoch=0, isr=[(two, epoch)])]
    )
    assert (altered.error, altered.isr, altered.partition_epoch) == (ErrorCode.NONE, (2,), 1)
    (altered,) = await controller.alter_partitions(
        two,
        epoch,
        [IsrChange(topic_id=topic.id, partition=0, leader_epoch=0, partition_epoch=1, isr=[(two, epoch), (NODE, 1)])],
    )
    answer = await controller.heartbeat(beat(registered_at, stop=True))
    assert (answer.may_stop, answer.leads, answer.offset) == (True, 0, controller.image.offset)
    assert controller.image.topics["a"].partitions[0].leader == 1
    await controller.create_topics([NewTopic(name="b")])
    before = controller.image
    assert await controller.heartbeat(beat(registered_at, stop=True)) == answer
    assert controller.image is before
    assert await controller.fence_brokers([two]) == [2]
    assert await controller.fence_brokers([two]) == []


async def test_a_new_controller_unfences_only_who_knows_all_that_it_knew_when_it_took_over() -> None:
    controller, _ = await started_controller()
    epoch = await controller.register_broker(registration(2))
    await controller.create_topics([NewTopic(name="a")])
    controller.leadership_changed(NODE, 2)
    took_over_at = controller.image.offset
    for offset, is_fenced in ((took_over_at - 1, True), (took_over_at, False)):
        beat = BrokerHeartbeat(broker_id=NodeId(2), broker_epoch=epoch, metadata_offset=offset)
        assert (await controller.heartbeat(beat)).fenced is is_fenced


@pytest.mark.parametrize(
    "data",
    [
        pb.MetadataBatch(version=2).SerializeToString(),
        b"\x0a\x04\xfa\x3f\x01\x00",  # a record of a kind with a number far beyond
    ],
)
async def test_records_of_a_newer_version_stop_a_node_with_a_clear_message(data: bytes) -> None:
    controller, _ = await started_controller()
    before = controller.image
    failures: list[Exception] = []
    controller.on_failure = failures.append
    controller.apply(Entry(9, 3, data))
    assert [type(failure) for failure in failures] == [NewerMetadata]
    assert "newer version of Ottla" in str(failures[0])
    controller.apply(Entry(10, 3, pb.MetadataBatch().SerializeToString()))
    assert controller.image is before
    assert not controller.is_active
    with pytest.raises(ApiError) as caught:
        await controller.create_topics([NewTopic(name="a")])
    assert "newer version" in caught.value.message
    controller.on_failure = None
    with pytest.raises(NewerMetadata):  # so a start ends
        controller.restore(Snapshot(9, 3, data))


async def test_a_broker_may_not_stop_before_its_leaderships_are_committed_elsewhere() -> None:
    controller, quorum = await started_controller()
    await controller.create_topics([NewTopic(name="a")])
    quorum.automatic = False
    beat = BrokerHeartbeat(broker_id=NODE, broker_epoch=1, metadata_offset=9, stop=True)
    first = asyncio.ensure_future(controller.heartbeat(beat))
    await turn()
    assert not (await controller.heartbeat(beat)).may_stop
    quorum.commit()
    assert (await first).may_stop
    assert (await controller.heartbeat(beat)).may_stop
