"""What a consumer promises as a member of a group, against a cluster in memory."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client import (
    ClientError,
    CommitFailed,
    ConfigError,
    Consumer,
    ErrorCode,
    GroupMetadata,
    OffsetAndMetadata,
    TopicPartition,
)
from tests.unit.client.fake_cluster import FakeCluster
from tests.unit.client.test_consumer import FAST, fill, take

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
GROUP: dict[str, Any] = {**FAST, "group_id": "g", "auto_offset_reset": "earliest"}


def committed(cluster: FakeCluster) -> dict[TopicPartition, int]:
    return {one: offset.offset for one, offset in cluster.groups.committed.items()}


async def until(condition: Callable[[], object], *polled: Consumer[Any, Any]) -> None:
    """Poll these consumers until it is true."""
    async with asyncio.timeout(3):
        while not condition():
            for consumer in polled:
                await consumer.poll(5)
            await asyncio.sleep(0.001)


async def test_a_group_goes_on_where_it_has_committed() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b", b"c")
    async with Consumer("t", transport=cluster, **GROUP) as consumer:
        assert await take(consumer, 3) == [b"a", b"b", b"c"]
    assert committed(cluster) == {T0: 3}
    assert cluster.groups.members == {}
    fill(cluster, b"d")
    async with Consumer("t", transport=cluster, **GROUP) as consumer:
        assert await take(consumer, 1) == [b"d"]


async def test_what_was_given_is_committed_when_the_next_poll_begins() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b")
    async with Consumer("t", transport=cluster, auto_commit_interval_ms=1, max_poll_records=1, **GROUP) as consumer:
        assert await take(consumer, 1) == [b"a"]
        await asyncio.sleep(0.01)
        assert committed(cluster).get(T0, 0) == 0
        assert await take(consumer, 1) == [b"b"]
        await until(lambda: committed(cluster) == {T0: 1})
    assert committed(cluster) == {T0: 2}


async def test_an_exception_commits_what_was_processed_and_not_what_was_at_work() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b", b"c")
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(3), Consumer("t", transport=cluster, **GROUP) as consumer:
            async for record in consumer:
                if record.value == b"b":
                    1 / 0  # noqa: B018
    assert committed(cluster) == {T0: 1}


async def test_without_auto_commit_only_commit_commits() -> None:
    cluster = FakeCluster(t=2)
    fill(cluster, b"a", b"b")
    async with Consumer("t", transport=cluster, enable_auto_commit=False, **GROUP) as consumer:
        await take(consumer, 2)
        assert committed(cluster) == {}
        await consumer.commit({T0: 1})
        assert committed(cluster) == {T0: 1}
        await consumer.commit()
        assert committed(cluster)[T0] == 2
        await consumer.commit_async({T1: OffsetAndMetadata(0, "note")})
        assert await consumer.committed([T0, T1]) == {T0: OffsetAndMetadata(2), T1: OffsetAndMetadata(0, "note")}
        count = len(cluster.groups.commits)
    assert len(cluster.groups.commits) == count


async def test_members_share_and_what_stays_is_not_interrupted() -> None:
    cluster = FakeCluster(t=2)
    calls: list[tuple[str, list[TopicPartition]]] = []

    def listeners(name: str) -> dict[str, Any]:
        async def on_assigned(partitions: list[TopicPartition]) -> None:
            calls.append((f"{name} assigned", partitions))

        async def on_revoked(partitions: list[TopicPartition]) -> None:
            calls.append((f"{name} revoked", partitions))

        return {"on_assigned": on_assigned, "on_revoked": on_revoked}

    async with Consumer("t", transport=cluster, **GROUP, **listeners("first")) as first:
        await until(lambda: first.assignment() == {T0, T1}, first)
        fill(cluster, b"a", b"b")
        fill(cluster, b"x", partition=1)
        assert set(await take(first, 3)) == {b"a", b"b", b"x"}
        stays = first._fetcher.partitions[T0]
        second_transport = FakeCluster(t=2)
        second_transport.group_coordinator, second_transport.logs = cluster.group_coordinator, cluster.logs
        async with Consumer("t", transport=second_transport, **GROUP, **listeners("second")) as second:
            await until(lambda: second.assignment() == {T1}, first, second)
            assert first.assignment() == {T0}
            assert first._fetcher.partitions[T0] is stays
            assert committed(cluster)[T1] == 1  # committed before it went
            fill(cluster, b"y", partition=1)
            assert await take(second, 1) == [b"y"]
        await until(lambda: first.assignment() == {T0, T1}, first)
    assert calls == [
        ("first assigned", [T0, T1]),
        ("first revoked", [T1]),
        ("second assigned", [T1]),
        ("second revoked", [T1]),
        ("first assigned", [T1]),
        ("first revoked", [T0, T1]),
    ]


async def test_nothing_is_taken_away_while_the_application_is_at_work() -> None:
    cluster = FakeCluster(t=2)
    async with Consumer("t", transport=cluster, **GROUP) as consumer:
        await until(lambda: len(consumer.assignment()) == 2, consumer)
        heartbeats = len(cluster.groups.heartbeats)
        cluster.groups.join("other", "t")
        await until(lambda: len(cluster.groups.heartbeats) > heartbeats + 3)
        assert consumer.assignment() == {T0, T1}
        await until(lambda: consumer.assignment() == {T0}, consumer)


async def test_a_callback_may_seek_and_commit() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b", b"c")
    made: list[Consumer[Any, Any]] = []

    async def on_assigned(partitions: list[TopicPartition]) -> None:
        for one in partitions:
            made[0].seek(one, 2)

    async def on_revoked(partitions: list[TopicPartition]) -> None:
        await made[0].commit({T0: OffsetAndMetadata(3, "mine")})

    settings = {**GROUP, "on_assigned": on_assigned, "on_revoked": on_revoked, "enable_auto_commit": False}
    consumer = Consumer("t", transport=cluster, **settings)
    made.append(consumer)
    async with consumer:
        assert await take(consumer, 1) == [b"c"]
    assert cluster.groups.committed == {T0: OffsetAndMetadata(3, "mine")}


async def test_a_callback_that_raises_is_told_and_the_partitions_go_anyhow() -> None:
    cluster = FakeCluster(t=2)

    async def on_revoked(partitions: list[TopicPartition]) -> None:
        raise KeyError(partitions[0])

    async with Consumer("t", transport=cluster, **GROUP) as consumer:
        await until(lambda: len(consumer.assignment()) == 2, consumer)
        object.__setattr__(consumer._config, "on_revoked", on_revoked)
        cluster.groups.join("other", "t")
        with pytest.raises(KeyError):
            await until(lambda: False, consumer)
        assert consumer.assignment() == {T0}
        assert await consumer.poll(5) == {}
        object.__setattr__(consumer._config, "on_revoked", None)


async def test_who_is_dropped_loses_its_partitions_and_joins_again() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a", b"b")
    lost: list[list[TopicPartition]] = []

    async def on_lost(partitions: list[TopicPartition]) -> None:
        lost.append(partitions)

    async with Consumer("t", transport=cluster, on_lost=on_lost, **GROUP) as consumer:
        assert await take(consumer, 2) == [b"a", b"b"]
        [member_id] = cluster.groups.members
        cluster.groups.expel(member_id)
        assert await take(consumer, 2) == [b"a", b"b"]  # nothing had been committed
        assert lost == [[T0]]
    assert committed(cluster) == {T0: 2}


async def test_a_commit_of_somebody_who_was_dropped_says_so() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a")
    async with Consumer("t", transport=cluster, enable_auto_commit=False, **GROUP) as consumer:
        await take(consumer, 1)
        cluster.groups.commit_faults.append(ClientError(ErrorCode.UNKNOWN_MEMBER_ID))
        with pytest.raises(CommitFailed) as caught:
            await consumer.commit()
    assert (caught.value.code, caught.value.retriable) == (ErrorCode.UNKNOWN_MEMBER_ID, False)


async def test_commits_and_heartbeats_follow_the_coordinator() -> None:
    cluster = FakeCluster(t=1)
    fill(cluster, b"a")
    moved = [ClientError(ErrorCode.NOT_COORDINATOR), ClientError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)]
    cluster.groups.heartbeat_faults.extend(moved)
    cluster.groups.fetch_faults.extend(moved)
    async with Consumer("t", transport=cluster, enable_auto_commit=False, **GROUP) as consumer:
        await take(consumer, 1)
        cluster.groups.commit_faults.extend([*moved, ClientError(ErrorCode.STALE_MEMBER_EPOCH)])
        found = cluster.groups.found
        await consumer.commit()
        assert cluster.groups.found == found + 1
    assert committed(cluster) == {T0: 1}


async def test_a_group_that_will_not_have_the_consumer_is_told_at_every_poll() -> None:
    cluster = FakeCluster(t=1)
    cluster.groups.heartbeat_faults.append(ClientError(ErrorCode.GROUP_AUTHORIZATION_FAILED))
    async with Consumer("t", transport=cluster, **GROUP) as consumer:
        for _ in range(2):
            with pytest.raises(ClientError) as caught:
                await consumer.poll(1000)
            assert caught.value.code is ErrorCode.GROUP_AUTHORIZATION_FAILED


async def test_who_does_not_poll_leaves_and_comes_back_with_the_next_poll() -> None:
    cluster = FakeCluster(t=1)
    async with Consumer("t", transport=cluster, max_poll_interval_ms=30, **GROUP) as consumer:
        await until(lambda: consumer.assignment() == {T0}, consumer)
        await until(lambda: not cluster.groups.members)
        with pytest.raises(CommitFailed):
            await consumer.commit({T0: 1})
        assert await consumer.committed([T0]) == {T0: None}
        await until(lambda: cluster.groups.members and consumer.assignment() == {T0}, consumer)


async def test_waiting_for_records_is_polling() -> None:
    cluster = FakeCluster(t=1)
    async with Consumer("t", transport=cluster, max_poll_interval_ms=30, **GROUP) as consumer:
        await until(lambda: consumer.assignment() == {T0}, consumer)
        await consumer.poll(100)
        assert [request.member_epoch for request in cluster.groups.heartbeats if request.member_epoch < 0] == []


async def test_cancelling_a_poll_in_a_rebalance_leaves_it_to_the_next_one() -> None:
    cluster = FakeCluster(t=1)
    began, go_on = asyncio.Event(), asyncio.Event()
    calls: list[list[TopicPartition]] = []

    async def on_assigned(partitions: list[TopicPartition]) -> None:
        calls.append(partitions)
        began.set()
        await go_on.wait()

    async with Consumer("t", transport=cluster, on_assigned=on_assigned, **GROUP) as consumer:
        fill(cluster, b"a")
        polling = asyncio.create_task(consumer.poll(5000))
        await began.wait()
        polling.cancel()
        await asyncio.wait([polling])
        assert await consumer.poll(5) == {}
        go_on.set()
        assert await take(consumer, 1) == [b"a"]
    assert calls == [[T0]]


async def test_partitions_assigned_by_hand_are_committed_under_nobodys_name() -> None:
    cluster = FakeCluster(t=2)
    fill(cluster, b"a", b"b")
    cluster.groups.committed[T0] = OffsetAndMetadata(1)
    async with Consumer(transport=cluster, **GROUP) as consumer:
        consumer.assign([T0])
        assert await take(consumer, 1) == [b"b"]
        assert consumer.group_metadata().member_epoch == -1
    assert committed(cluster) == {T0: 2}
    assert cluster.groups.heartbeats == []


async def test_committing_without_a_group_says_what_is_missing() -> None:
    async with Consumer("t", transport=FakeCluster(t=1), **FAST) as consumer:
        with pytest.raises(ClientError, match="give the consumer a group_id"):
            await consumer.commit()


async def test_what_is_committed_of_a_deleted_topic_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(t=2)
    monkeypatch.setattr("ottla.client.coordinators.NEW_TOPIC_S", 0.02)
    commit_offsets, attempts = cluster.groups.commit_offsets, 0

    async def commit(node_id: int, group: GroupMetadata, offsets: Any) -> Any:
        nonlocal attempts
        attempts += 1
        there = {one: offset for one, offset in offsets.items() if one == T0}
        missing = ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic="t", partition=1)
        return {T1: missing} | await commit_offsets(node_id, group, there)

    cluster.groups.commit_offsets = commit  # type: ignore[method-assign]
    patient: dict[str, Any] = {**GROUP, "api_timeout_ms": 60_000}
    async with asyncio.timeout(5), Consumer("t", transport=cluster, enable_auto_commit=False, **patient) as consumer:
        await consumer.poll(5)
        with pytest.raises(ClientError, match="t-1: UNKNOWN_TOPIC_OR_PARTITION"):
            await consumer.commit({T0: 1, T1: 1})
    assert (attempts > 1, committed(cluster)) == (True, {T0: 1})


async def test_wrong_offsets_and_partitions_are_refused_with_the_reason() -> None:
    cluster = FakeCluster(t=1)
    async with Consumer("t", transport=cluster, **GROUP) as consumer:
        with pytest.raises(ValueError, match="t-0: an offset is at least 0, not -3"):
            await consumer.commit({T0: -3})
        with pytest.raises(TypeError, match=r"pause, resume, .* take partitions one by one"):
            consumer.pause([T0])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="other calls take a list"):
            await consumer.committed(T0)  # type: ignore[arg-type]
    assert committed(cluster) == {}


def test_settings_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="group_id is empty"):
        Consumer("t", group_id="")
    with pytest.raises(ConfigError, match="async def on_assigned"):
        Consumer("t", group_id="g", on_assigned=lambda partitions: None)  # type: ignore[arg-type, return-value]
