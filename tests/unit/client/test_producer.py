"""What a producer promises, against a cluster in memory."""

import asyncio
import logging
import random
from typing import Any

import pytest

from ottla.client import (
    BufferExhausted,
    ClientClosed,
    ClientError,
    Delivery,
    DeliveryTimeout,
    ErrorCode,
    Producer,
    RecordTooLarge,
    SerializationFailed,
    json_serializer,
    string_serializer,
)
from ottla.client.config import CompressionType
from ottla.client.partitioner import partition_for_key
from ottla.client.transport import ProduceRequest
from ottla.core.errors import ConfigError
from ottla.records.batch import Compression, read_header
from tests.unit.client.fake_cluster import FakeCluster

FAST: dict[str, Any] = {"linger_ms": 0, "retry_backoff_ms": 1, "retry_backoff_max_ms": 5}


async def refuse(request: ProduceRequest) -> ClientError:
    return ClientError(ErrorCode.NOT_LEADER_OR_FOLLOWER)


async def lose(request: ProduceRequest) -> ClientError:
    return ClientError(ErrorCode.NETWORK_EXCEPTION, "connection reset")


async def refuse_for_good(request: ProduceRequest) -> ClientError:
    return ClientError(ErrorCode.INVALID_RECORD, "no key")


async def hang(request: ProduceRequest) -> None:
    await asyncio.Event().wait()


async def test_a_delivery_tells_where_the_record_is() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, linger_ms=0) as producer:
        first = await producer.send_and_wait("t", b"a", timestamp_ms=1234)
        delivery = await producer.send("t", b"b")
        second = await delivery
    assert first == ("t", 0, 0, 1234)
    assert (second.offset, delivery.result()) == (1, second)
    assert cluster.values("t") == [b"a", b"b"]


async def test_records_travel_with_key_headers_and_time() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster) as producer:
        await producer.send("t", None, key=b"k", headers={"h": b"1", "n": None}, timestamp_ms=5)
        await producer.send("t", b"v", headers=[("twice", b"1"), ("twice", b"2")])
    first, second = cluster.log("t").records()
    assert first[1:] == (5, b"k", None, (("h", b"1"), ("n", None)))
    assert second.headers == (("twice", b"1"), ("twice", b"2"))


async def test_records_are_gathered_until_the_batch_is_full_or_the_linger_is_over() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, linger_ms=10_000, batch_size=1000) as producer:
        for _ in range(20):
            await producer.send("t", bytes(100))
        await asyncio.sleep(0.02)
        assert [read_header(batch).record_count for batch in cluster.log("t").batches] == [8, 8]
    assert sum(read_header(batch).record_count for batch in cluster.log("t").batches) == 20


async def test_a_batch_does_not_linger_longer_than_linger_ms() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, linger_ms=20) as producer:
        deliveries = [await producer.send("t", b"x") for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*deliveries), 1)
    assert len(cluster.requests) == 1


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_batches_are_compressed(codec: CompressionType) -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, compression_type=codec) as producer:
        await producer.send("t", bytes(1000))
    assert read_header(cluster.log("t").batches[0]).compression is Compression[codec.upper()]
    assert cluster.values("t") == [bytes(1000)]


async def test_keys_choose_the_partition() -> None:
    cluster = FakeCluster(t=7)
    async with Producer(transport=cluster, key_serializer=string_serializer) as producer:
        for number in range(50):
            metadata = await (await producer.send("t", b"v", key=f"key-{number}", partition=None))
            assert metadata.partition == partition_for_key(f"key-{number}".encode(), 7)


async def test_serializers_make_bytes_and_null_stays_null() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, value_serializer=json_serializer) as producer:
        await producer.send("t", {"a": 1})
        await producer.send("t", None)
    assert cluster.values("t") == [b'{"a":1}', None]


async def test_a_serializer_that_raises_is_told_and_nothing_is_accepted() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, value_serializer=json_serializer) as producer:
        with pytest.raises(SerializationFailed) as caught:
            await producer.send("t", {1, 2})
        assert isinstance(caught.value.__cause__, TypeError)
    assert cluster.values("t") == []


async def test_text_without_a_serializer_is_refused_with_advice() -> None:
    async with Producer(transport=FakeCluster(t=1)) as producer:
        with pytest.raises(TypeError, match="value_serializer"):
            await producer.send("t", "text")  # type: ignore[arg-type]


async def test_what_a_node_said_of_a_leader_and_was_wrong_is_asked_of_another_one() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        await producer.send_and_wait("t", b"a")
        assert cluster.asked_elsewhere == 0
        cluster.faults.append(refuse)
        await producer.send_and_wait("t", b"b")
        assert cluster.asked_elsewhere == 1


async def test_a_record_beyond_max_request_size_is_refused() -> None:
    async with Producer(transport=FakeCluster(t=1), max_request_size=1000) as producer:
        with pytest.raises(RecordTooLarge) as caught:
            await producer.send("t", bytes(1001))
    assert (caught.value.code, caught.value.retriable, caught.value.topic) == (ErrorCode.MESSAGE_TOO_LARGE, False, "t")


async def test_a_partition_that_does_not_exist_is_refused() -> None:
    async with Producer(transport=FakeCluster(t=2)) as producer:
        with pytest.raises(ClientError, match="partitions 0 to 1"):
            await producer.send("t", b"v", partition=2)


async def test_a_refused_topic_is_told_at_once() -> None:
    cluster = FakeCluster()
    cluster.topic_errors["t"] = ClientError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, topic="t")
    async with Producer(transport=cluster) as producer:
        with pytest.raises(ClientError) as caught:
            await producer.send("t", b"v")
    assert caught.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED


async def test_an_unknown_topic_is_waited_for_as_long_as_max_block_ms() -> None:
    cluster = FakeCluster()
    async with Producer(transport=cluster, max_block_ms=300, retry_backoff_ms=5, retry_backoff_max_ms=10) as producer:
        with pytest.raises(ClientError) as caught:
            await producer.send("t", b"v")
        assert (caught.value.code, caught.value.topic) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "t")
        asyncio.get_running_loop().call_later(0.01, cluster.partition_counts.update, {"u": 1})
        await producer.send_and_wait("u", b"v")


async def test_retriable_errors_are_retried() -> None:
    cluster = FakeCluster(t=1)
    cluster.faults.extend([refuse, lose])
    async with Producer(transport=cluster, **FAST) as producer:
        assert (await producer.send_and_wait("t", b"a")).offset == 0
    assert len(cluster.requests) == 3


async def test_a_lost_answer_makes_no_duplicate() -> None:
    cluster = FakeCluster(t=1)
    cluster.lose_answers.append(True)
    async with Producer(transport=cluster, **FAST) as producer:
        assert (await producer.send_and_wait("t", b"a")).offset == 0
        assert (await producer.send_and_wait("t", b"b")).offset == 1
    assert cluster.values("t") == [b"a", b"b"]


async def test_order_is_kept_when_the_first_of_five_requests_fails() -> None:
    cluster = FakeCluster(t=1)
    cluster.faults.extend([lose, None, None, refuse, None, lose])
    async with Producer(transport=cluster, batch_size=0, **FAST) as producer:
        deliveries = [await producer.send("t", b"%d" % number) for number in range(20)]
        offsets = [(await delivery).offset for delivery in deliveries]
    assert offsets == list(range(20))
    assert cluster.values("t") == [b"%d" % number for number in range(20)]


async def test_no_more_than_five_requests_are_in_flight() -> None:
    cluster = FakeCluster(t=1)
    producer = Producer(transport=cluster, batch_size=0, **FAST)
    await producer.start()
    await producer.send_and_wait("t", b"v")
    cluster.always = hang
    for _ in range(20):
        await producer.send("t", b"v")
    await asyncio.sleep(0.05)
    assert len(cluster.requests) == 1 + 5
    await producer.close(timeout_ms=0)


async def test_after_a_batch_is_given_up_the_partition_goes_on_without_gap_or_duplicate() -> None:
    cluster = FakeCluster(t=1)
    cluster.faults.extend([None, refuse_for_good])
    async with Producer(transport=cluster, batch_size=0, **FAST) as producer:
        deliveries = [await producer.send("t", b"%d" % number) for number in range(10)]
        results = await asyncio.gather(*deliveries, return_exceptions=True)
    assert isinstance(results[1], ClientError)
    assert (results[1].code, results[1].topic, results[1].partition) == (ErrorCode.INVALID_RECORD, "t", 0)
    assert cluster.values("t") == [b"%d" % number for number in range(10) if number != 1]
    assert {read_header(batch).producer_epoch for batch in cluster.log("t").batches} == {0, 1}


async def test_a_leader_that_lost_the_producers_state_is_answered_with_a_new_epoch() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        await producer.send_and_wait("t", b"a")
        cluster.log("t").sequences.clear()
        await producer.send_and_wait("t", b"b")
    assert [(header.producer_epoch, header.base_sequence) for header in map(read_header, cluster.log("t").batches)] == [
        (0, 0),
        (1, 0),
    ]


async def test_an_epoch_that_is_refused_is_answered_with_a_new_producer_id() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        await producer.send_and_wait("t", b"a")
        cluster.log("t").sequences[1001] = (5, 0)
        await producer.send_and_wait("t", b"b")
    assert [read_header(batch).producer_id for batch in cluster.log("t").batches] == [1001, 1002]


async def test_delivery_is_given_up_after_delivery_timeout_ms(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(t=1)
    cluster.always = refuse
    settings: dict[str, Any] = {"request_timeout_ms": 20, "delivery_timeout_ms": 40, **FAST}
    async with Producer(transport=cluster, **settings) as producer:
        delivery = await producer.send("t", b"a")
        with caplog.at_level(logging.WARNING, "ottla.client"), pytest.raises(DeliveryTimeout) as caught:
            await delivery
    assert (caught.value.topic, caught.value.partition, caught.value.retriable) == ("t", 0, True)
    assert "1 records were not delivered" in caplog.text


async def test_a_request_that_hangs_does_not_outlive_delivery_timeout_ms() -> None:
    cluster = FakeCluster(t=1)
    cluster.always = hang
    async with Producer(transport=cluster, linger_ms=0, request_timeout_ms=20, delivery_timeout_ms=40) as producer:
        with pytest.raises(DeliveryTimeout):
            await producer.send_and_wait("t", b"a")


async def test_send_waits_for_room_in_the_buffer_and_then_is_accepted() -> None:
    cluster = FakeCluster(t=1)
    gate = asyncio.Event()

    async def wait_for_gate(request: ProduceRequest) -> None:
        await gate.wait()

    cluster.always = wait_for_gate
    async with Producer(transport=cluster, buffer_memory=300, linger_ms=0) as producer:
        await producer.send("t", bytes(200))
        waiting = [asyncio.create_task(producer.send("t", bytes([number]) * 200)) for number in range(3)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in waiting)
        gate.set()
        await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert [value[0] for value in cluster.values("t") if value] == [0, 0, 1, 2]


async def test_send_gives_up_waiting_for_room_after_max_block_ms() -> None:
    cluster = FakeCluster(t=1)
    cluster.always = hang
    producer = Producer(transport=cluster, buffer_memory=300, linger_ms=0, max_block_ms=20)
    await producer.start()
    await producer.send("t", bytes(200))
    with pytest.raises(BufferExhausted) as caught:
        await producer.send("t", bytes(200))
    assert caught.value.retriable
    await producer.close(timeout_ms=0)


async def test_a_cancelled_send_was_not_accepted() -> None:
    cluster = FakeCluster(t=1)
    gate = asyncio.Event()

    async def wait_for_gate(request: ProduceRequest) -> None:
        await gate.wait()

    cluster.always = wait_for_gate
    async with Producer(transport=cluster, buffer_memory=300, linger_ms=0) as producer:
        await producer.send("t", b"a" * 200)
        cancelled = asyncio.create_task(producer.send("t", b"b" * 200))
        following = asyncio.create_task(producer.send("t", b"c" * 200))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        gate.set()
        await asyncio.wait_for(following, 1)
    assert [value[:1] for value in cluster.values("t") if value] == [b"a", b"c"]


async def test_cancelling_an_await_takes_nothing_back_and_disturbs_no_other() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, linger_ms=30) as producer:
        delivery = await producer.send("t", b"a")
        other = await producer.send("t", b"b")

        async def wait() -> None:
            await delivery

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (await other).offset == 1
        assert (await delivery).offset == 0


async def test_close_delivers_what_was_accepted() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, linger_ms=60_000) as producer:
        deliveries = [await producer.send("t", b"v") for _ in range(100)]
    assert all(delivery.done() and delivery.exception() is None for delivery in deliveries)
    assert len(cluster.values("t")) == 100
    assert cluster.closed


async def test_a_cancelled_close_gives_up_the_rest_and_closes() -> None:
    cluster = FakeCluster(t=1)
    cluster.always = hang
    producer = Producer(transport=cluster, linger_ms=0)
    await producer.start()
    delivery = await producer.send("t", b"v")
    closing = asyncio.create_task(producer.close())
    await asyncio.sleep(0.01)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(ClientClosed):
        delivery.result()
    assert cluster.closed
    await producer.close()


async def test_a_closed_producer_takes_no_record() -> None:
    producer = Producer(transport=FakeCluster(t=1))
    with pytest.raises(ClientClosed, match="not started"):
        await producer.send("t", b"v")
    await producer.start()
    await producer.close()
    with pytest.raises(ClientClosed, match="closed"):
        await producer.send("t", b"v")
    with pytest.raises(ClientClosed, match="starts once"):
        await producer.start()


async def test_callbacks_run_when_a_record_is_settled() -> None:
    cluster = FakeCluster(t=1)
    told: list[int] = []
    async with Producer(transport=cluster) as producer:
        delivery = await producer.send("t", b"v")
        with pytest.raises(asyncio.InvalidStateError):
            delivery.result()
        delivery.add_done_callback(lambda it: told.append(it.result().offset))
        await producer.flush()
        delivery.add_done_callback(lambda it: told.append(it.result().offset))
        await asyncio.sleep(0)
    assert told == [0, 0]


async def test_one_request_carries_batches_of_several_partitions() -> None:
    cluster = FakeCluster(t=3)
    async with Producer(transport=cluster, linger_ms=60_000) as producer:
        for partition in range(3):
            await producer.send("t", b"v", partition=partition)
        await producer.flush()
    assert [sorted(partition for (_, partition), _ in request.batches) for request in cluster.requests] == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"acks": 1}, "enable_idempotence"),
        ({"max_in_flight_requests_per_connection": 6}, "at most 5"),
        ({"compression_type": "brotli"}, "none of"),
        ({"delivery_timeout_ms": 10}, "delivery_timeout_ms"),
        ({"bootstrap_servers": "nowhere"}, "host:port"),
        ({"ssl_certfile": "x"}, "ssl_keyfile"),
        ({"batch_size": -1}, "batch_size"),
    ],
)
def test_wrong_settings_are_refused_with_what_to_change(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Producer(**settings)  # type: ignore[call-overload]


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_fails_an_acknowledged_record_is_there_once_and_in_order(seed: int) -> None:
    """Requests get lost before or after the append, are refused for now or for good; records of two partitions."""
    rng = random.Random(seed)
    cluster = FakeCluster(t=2)
    outcomes = [None] * 5 + [refuse, lose, lose, refuse_for_good]
    cluster.faults.extend(rng.choice(outcomes) for _ in range(60))
    cluster.lose_answers.extend(rng.random() < 0.2 for _ in range(80))
    deliveries: list[tuple[int, bytes, Delivery]] = []
    settings: dict[str, Any] = {"batch_size": rng.choice([0, 100, 400]), "request_timeout_ms": 20, **FAST}
    async with Producer(transport=cluster, **settings) as producer:
        for number in range(150):
            partition, value = rng.randrange(2), b"%d" % number
            deliveries.append((partition, value, await producer.send("t", value, partition=partition)))
            if rng.random() < 0.1:
                await asyncio.sleep(0.001)
    for partition in range(2):
        there = cluster.values("t", partition)
        acknowledged = [
            (value, delivery.result().offset)
            for index, value, delivery in deliveries
            if index == partition and delivery.exception() is None
        ]
        assert [there[offset] for _, offset in acknowledged] == [value for value, _ in acknowledged]
        assert there == sorted(set(there), key=lambda value: int(value or b"0")), "a duplicate, or out of order"
        assert len(there) >= len(acknowledged) > 0
