"""The blocking facade: order, memory, errors, threads; against a cluster in memory."""

import asyncio
from threading import Thread
from typing import Any

import pytest

from ottla.client import ClientClosed, ClientError, ErrorCode, RecordTooLarge
from ottla.client.sync import Producer
from ottla.client.sync.loop_thread import LoopThread
from tests.unit.client.fake_cluster import FakeCluster


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster(t=1)
    monkeypatch.setattr("ottla.client.producer.open_transport", lambda config: made)
    return made


def test_records_of_one_thread_keep_their_order(cluster: FakeCluster) -> None:
    with Producer(linger_ms=1) as producer:
        deliveries = [producer.send("t", b"%d" % number) for number in range(1000)]
        assert [delivery.result(5).offset for delivery in deliveries] == list(range(1000))
    assert cluster.values("t") == [b"%d" % number for number in range(1000)]


def test_order_is_kept_when_there_is_no_room_in_between(cluster: FakeCluster) -> None:
    with Producer(linger_ms=0, buffer_memory=2_000) as producer:
        for number in range(500):
            producer.send("t", b"%04d" % number + bytes(100))
    assert [value[:4] for value in cluster.values("t") if value] == [b"%04d" % number for number in range(500)]


def test_several_threads_share_a_producer(cluster: FakeCluster) -> None:
    def send() -> None:
        for _ in range(200):
            producer.send("t", b"x")

    with Producer() as producer:
        threads = [Thread(target=send) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush(5)
        assert len(cluster.values("t")) == 1000


def test_errors_are_told_by_send_or_by_the_delivery(cluster: FakeCluster) -> None:
    with Producer(max_request_size=1000) as producer:
        producer.send_and_wait("t", b"known")
        with pytest.raises(RecordTooLarge):
            producer.send("t", bytes(2000))
        error = producer.send("t", b"x", partition=7).exception(5)
        assert isinstance(error, ClientError)
        assert (error.code, error.partition) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 7)
    with pytest.raises(ClientClosed):
        producer.send("t", b"x")


def test_a_result_can_be_waited_for_with_a_limit(cluster: FakeCluster) -> None:
    async def hang(request: Any) -> None:
        await asyncio.Event().wait()

    cluster.always = hang
    producer = Producer(linger_ms=0)
    delivery = producer.send("t", b"x")
    with pytest.raises(TimeoutError):
        delivery.result(0.02)
    assert not delivery.done()
    producer.close(timeout_ms=0)
    assert isinstance(delivery.exception(5), ClientClosed)


def test_a_blocking_call_on_the_clients_own_thread_is_refused_instead_of_hanging() -> None:
    thread = LoopThread.shared()

    async def nothing() -> None:
        pass

    async def on_the_loop() -> None:
        with pytest.raises(RuntimeError, match="wait for itself"):
            thread.run(nothing())

    thread.run(on_the_loop())
