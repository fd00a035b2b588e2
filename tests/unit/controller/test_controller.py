import asyncio

import pytest

from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.controller.requests import NewTopic, TopicRef
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.raft.quorum import Entry, Snapshot
from ottla.v1 import metadata_pb2 as pb
from tests.unit.controller.cluster import started_controller, uuid


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
    encode = controller.snapshot()
    await controller.create_topics([NewTopic(name="b")])
    deltas: list[MetadataDelta] = []
    controller.subscribe(lambda image, delta: deltas.append(delta))
    controller.restore(Snapshot(7, 2, encode()))
    assert (controller.image.offset, controller.image.epoch, set(controller.image.topics)) == (7, 2, {"a"})
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
