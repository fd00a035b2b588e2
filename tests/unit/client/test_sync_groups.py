"""The blocking consumer in a group commits what it gave, though it takes more from the loop at once."""

import pytest

from ottla.client import TopicPartition
from ottla.client.sync import Consumer
from tests.unit.client.fake_cluster import FakeCluster
from tests.unit.client.test_consumer import fill
from tests.unit.client.test_groups import GROUP, committed

T0 = TopicPartition("t", 0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster(t=1)
    monkeypatch.setattr("ottla.client.consumer.open_transport", lambda config: made)
    fill(made, b"a", b"b", b"c", b"d")
    return made


def test_leaving_a_loop_commits_what_it_was_given(cluster: FakeCluster) -> None:
    with Consumer("t", **GROUP) as consumer:
        for record in consumer:
            if record.value == b"b":
                break
    assert committed(cluster) == {T0: 2}


def test_commit_within_a_loop_means_what_was_given_and_the_loop_goes_on(cluster: FakeCluster) -> None:
    seen = []
    with Consumer("t", enable_auto_commit=False, **GROUP) as consumer:
        for record in consumer:
            seen.append(record.value)
            if record.value == b"b":
                consumer.commit()
                assert committed(cluster) == {T0: 2}
            if record.value == b"d":
                break
        assert consumer.committed([T0])[T0] == (2, "", -1)
    assert seen == [b"a", b"b", b"c", b"d"]


def test_commits_in_the_background_are_done_when_the_consumer_closes(cluster: FakeCluster) -> None:
    with Consumer("t", enable_auto_commit=False, **GROUP) as consumer:
        assert next(consumer).value == b"a"
        consumer.commit_async()
        with pytest.raises(ValueError, match="at least 0"):
            consumer.commit_async({T0: -1})
    assert committed(cluster) == {T0: 1}


def test_an_exception_in_a_loop_does_not_commit_the_record_at_work(cluster: FakeCluster) -> None:
    with pytest.raises(ZeroDivisionError), Consumer("t", **GROUP) as consumer:
        for record in consumer:
            if record.value == b"c":
                1 / 0  # noqa: B018
    assert committed(cluster) == {T0: 2}


def test_an_exception_after_a_poll_does_not_commit_what_it_gave(cluster: FakeCluster) -> None:
    with pytest.raises(ZeroDivisionError), Consumer("t", max_poll_records=2, **GROUP) as consumer:
        given: list[bytes | None] = []
        while len(given) < 4:
            given += [record.value for records in consumer.poll(1000).values() for record in records]
        1 / 0  # noqa: B018
    assert committed(cluster) == {T0: 2}


def test_plain_functions_are_told_of_partitions_and_may_call_the_consumer(cluster: FakeCluster) -> None:
    told: list[tuple[str, list[TopicPartition]]] = []

    def on_assigned(partitions: list[TopicPartition]) -> None:
        told.append(("assigned", partitions))
        consumer.seek(T0, 2)

    def on_revoked(partitions: list[TopicPartition]) -> None:
        told.append(("revoked", partitions))
        consumer.commit({T0: 3})

    with Consumer("t", on_assigned=on_assigned, on_revoked=on_revoked, enable_auto_commit=False, **GROUP) as consumer:
        assert [record.value for records in consumer.poll(1000).values() for record in records] == [b"c", b"d"]
    assert told == [("assigned", [T0]), ("revoked", [T0])]
    assert committed(cluster) == {T0: 3}


def test_async_functions_are_told_on_the_loop(cluster: FakeCluster) -> None:
    told: list[list[TopicPartition]] = []

    async def on_assigned(partitions: list[TopicPartition]) -> None:
        told.append(partitions)
        consumer.on_loop.seek(T0, 3)

    with Consumer("t", on_assigned=on_assigned, **GROUP) as consumer:
        assert [record.value for records in consumer.poll(1000).values() for record in records] == [b"d"]
    assert told == [[T0]]
