"""Nothing is written twice, whoever leads: requests that hang, late answers, leaders that changed or forgot."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client import ClientError, Delivery, DeliveryTimeout, ErrorCode, Producer, TransactionAborted
from ottla.client.transport import ProduceResult
from ottla.records.header import read_header
from ottla.testing.sim.loop import World
from tests.unit.client.fake_leaders import FakeLeaders

FAST: dict[str, Any] = {
    "batch_size": 0,  # a batch for each record
    "linger_ms": 0,
    "retry_backoff_ms": 1,
    "retry_backoff_max_ms": 5,
    "metadata_max_age_ms": 10,
}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


async def send(producer: Producer[bytes, bytes], *numbers: int) -> list[Delivery]:
    return [await producer.send("t", b"%d" % number, partition=0) for number in numbers]


async def offsets(deliveries: list[Delivery]) -> list[int]:
    async with asyncio.timeout(5):
        return [(await delivery).offset for delivery in deliveries]


def epochs(cluster: FakeLeaders) -> set[int]:
    return {read_header(batch).producer_epoch for batch in cluster.partition.batches}


@pytest.mark.parametrize("written", [True, False])
async def test_what_hangs_at_the_old_leader_goes_to_the_new_one_before_newer_batches(written: bool) -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, **FAST) as producer:
        await offsets(await send(producer, 0))
        cluster.nodes[1].is_mute, cluster.nodes[1].hangs = written, not written
        old = await send(producer, 1, 2)
        await until(lambda: len(cluster.requests) == 3)
        await until(lambda: cluster.committed == (3 if written else 1))
        cluster.elect(2)
        cluster.tell()
        new = await send(producer, *range(3, 20))
        assert await offsets(old + new) == list(range(1, 20))
        cluster.break_connection(1)
        cluster.release(1)
        assert await offsets(await send(producer, 20)) == [20]
    assert cluster.partition.values() == list(range(21))
    assert epochs(cluster) == {0}


async def test_the_old_leaders_late_acknowledgement_counts_and_its_late_refusal_does_not() -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, **FAST) as producer:
        await offsets(await send(producer, 0))
        cluster.nodes[1].hangs = True
        sent = await send(producer, 1, 2)
        await until(lambda: len(cluster.requests) == 3)
        first, second = cluster.nodes[1].queue
        cluster.nodes[2].hangs = True
        cluster.elect(2)
        cluster.tell()
        await until(lambda: len(cluster.requests) == 5)
        for pending, code in ((first, None), (second, ErrorCode.INVALID_RECORD)):
            (partition, batch) = pending.request.batches[0]
            error = None if code is None else ClientError(code)
            if code is None:
                cluster.partition.append(bytes(batch))
            pending.answer.set_result({partition: ProduceResult(error, 1, -1)})
        assert await offsets(sent[:1]) == [1]
        assert not sent[1].done()
        cluster.release(2)
        assert await offsets(sent) == [1, 2]
    assert cluster.partition.values() == [0, 1, 2]


async def test_no_more_batches_follow_an_unsettled_one_than_a_leader_remembers() -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, **FAST) as producer:
        await offsets(await send(producer, 0))
        cluster.nodes[1].is_mute = True
        old = await send(producer, 1)
        await until(lambda: cluster.committed == 2)
        cluster.nodes[1].is_mute = False
        new = await send(producer, *range(2, 12))
        assert await offsets(new[:4]) == [2, 3, 4, 5]
        await asyncio.sleep(0.03)
        assert cluster.partition.values() == list(range(6))
        cluster.break_connection(1)  # the oldest comes again, and its leader still knows it
        assert await offsets(old + new) == list(range(1, 12))
    assert cluster.partition.values() == list(range(12))


async def test_a_first_batch_travels_alone_as_a_leader_that_knows_nothing_takes_any() -> None:
    cluster = FakeLeaders()
    cluster.refusals = [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    async with Producer(transport=cluster, **FAST) as producer:
        assert await offsets(await send(producer, *range(8))) == list(range(8))
    assert cluster.partition.values() == list(range(8))


async def test_what_may_be_written_is_never_sent_under_another_epoch() -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, request_timeout_ms=100, **FAST) as producer:
        await offsets(await send(producer, 0))
        cluster.nodes[1].is_mute = True
        doubtful = await send(producer, 1)
        await until(lambda: cluster.committed == 2)
        cluster.nodes[1].is_mute = False
        cluster.refusals = [ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER] * 1000
        cluster.break_connection(1)
        following = await send(producer, 2, 3)
        await until(doubtful[0].done)
        cluster.refusals.clear()
        with pytest.raises(ClientError, match="perhaps written") as caught:
            doubtful[0].result()
        error = caught.value
        assert (error.code, error.retriable) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, False)
        assert (error.topic, error.partition) == ("t", 0)
        assert await offsets(following) == [2, 3]
    assert cluster.partition.values() == [0, 1, 2, 3]
    first, *later = sorted(epochs(cluster))  # a refusal that came late may have met the next epoch as well
    assert first == 0
    assert len(later) == 1


async def test_a_replaced_leader_that_misses_batches_is_no_reason_to_give_one_up() -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, **FAST) as producer:
        await offsets(await send(producer, 0))
        cluster.nodes[1].is_mute = True
        sent = await send(producer, 1)
        await until(lambda: cluster.committed == 2)
        cluster.nodes[1].is_mute = False
        cluster.refusals = [ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER] * 3
        cluster.break_connection(1)
        assert await offsets(sent) == [1]
    assert cluster.partition.values() == [0, 1]


async def test_a_duplicate_is_an_acknowledgement() -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, **FAST) as producer:
        await offsets(await send(producer, 0))
        cluster.nodes[1].is_mute = True
        sent = await send(producer, 1)
        await until(lambda: cluster.committed == 2)
        cluster.nodes[1].is_mute = False
        cluster.refusals = [ErrorCode.DUPLICATE_SEQUENCE_NUMBER]
        cluster.break_connection(1)
        assert await offsets(sent) == [-1]
    assert cluster.partition.values() == [0, 1]


@pytest.mark.parametrize("written", [True, False])
async def test_after_a_delivery_timeout_the_partition_goes_on_without_a_duplicate(written: bool) -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, request_timeout_ms=400, delivery_timeout_ms=500, **FAST) as producer:
        await offsets(await send(producer, 0))
        cluster.nodes[1].is_mute, cluster.nodes[1].hangs = written, not written
        given_up = await send(producer, 1)
        await until(given_up[0].done)
        with pytest.raises(DeliveryTimeout):
            given_up[0].result()
        cluster.elect(2)
        cluster.tell()
        asked = cluster.asked
        await until(lambda: cluster.asked > asked + 1)
        await offsets(await send(producer, *range(2, 9)))
        cluster.release(1)
    assert cluster.partition.values() == [0, *([1] if written else []), *range(2, 9)]


@pytest.mark.parametrize("code", [ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH])
async def test_a_transaction_that_lost_its_sequence_is_aborted(code: ErrorCode) -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, transactional_id="x", **FAST) as producer:
        with pytest.raises(TransactionAborted):
            async with producer.transaction():
                await offsets(await send(producer, 0))
                cluster.refusals = [code]
                await send(producer, 1, 2)
    assert cluster.transactions.ended == [(0, False)]
    assert epochs(cluster) == {0}


async def test_a_transaction_outlives_a_refusal_of_what_came_too_early() -> None:
    cluster = FakeLeaders()
    async with Producer(transport=cluster, transactional_id="x", **FAST) as producer, producer.transaction():
        await offsets(await send(producer, 0))
        cluster.refusals = [ErrorCode.NOT_LEADER_OR_FOLLOWER]
        await send(producer, *range(1, 9))
    assert cluster.transactions.ended == [(0, True)]
    assert cluster.partition.values() == list(range(9))


class History:
    """One producer, sixty seconds of faults, and then quiet."""

    def __init__(self, seed: int) -> None:
        random.seed(seed)  # of the clients' backoff
        self.random = random.Random(seed)
        self.world = World(self.random)
        self.loop = self.world.new_loop("client")
        self.cluster = FakeLeaders(self.random)
        self.sent: list[Delivery] = []
        self.quiet = False

    def run(self) -> None:
        self.faults = self.loop.create_task(self._faults())
        self.loop.complete(self._client(), within_s=300)
        assert self.loop.failures == []

    async def _client(self) -> None:
        settings: dict[str, Any] = {
            "batch_size": self.random.choice([0, 0, 200]),
            "request_timeout_ms": 1_000,
            "delivery_timeout_ms": self.random.choice([1_100, 5_000, 20_000]),
            "metadata_max_age_ms": self.random.choice([50, 500, 300_000]),
            "max_in_flight_requests_per_connection": self.random.choice([1, 3, 5, 5]),
            "linger_ms": 0,
            "retry_backoff_ms": 10,
        }
        async with Producer(transport=self.cluster, **settings) as producer:
            while len(self.sent) < 150:
                self.sent += await send(producer, len(self.sent))
                await asyncio.sleep(self.random.choice([0, 0, 0, 0.005, 0.005, 0.5]))
            self.quiet = True
            await self.faults
            await producer.flush()
            last = await send(producer, len(self.sent))
            self.sent += last
            await last[0]

    async def _faults(self) -> None:
        cluster, random = self.cluster, self.random
        while not self.quiet:
            await asyncio.sleep(random.choice([0.002, 0.02, 0.2]))
            node_id = random.choice([1, 2, 3])
            node = cluster.nodes[node_id]
            match random.randrange(9):
                case 0:
                    node.hangs = True
                case 1:
                    node.is_mute = True
                case 2 | 3:
                    cluster.release(node_id)
                case 4:
                    cluster.break_connection(node_id)
                case 5:
                    keep = random.randint(cluster.committed, len(cluster.partition.batches))
                    cluster.elect(node_id, keep=keep, unaware=random.random() < 0.4)
                case 6 | 7:
                    cluster.tell()
                case 8:
                    codes = [ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.INVALID_RECORD]
                    cluster.refusals = [random.choice(codes)]
        for node_id in cluster.nodes:
            cluster.release(node_id)
        cluster.refusals.clear()
        cluster.tell()


@pytest.mark.parametrize("seed", range(40))
def test_whoever_leads_no_value_stands_twice_and_every_acknowledged_one_is_there_in_order(seed: int) -> None:
    history = History(seed)
    history.run()
    values = history.cluster.partition.values()
    assert len(values) == len(set(values)), "twice"
    assert values == sorted(values), "out of order"
    for number, delivery in enumerate(history.sent):
        error = delivery.exception()
        if error is None:
            assert values[delivery.result().offset] == number
        else:
            assert error.code in (
                ErrorCode.REQUEST_TIMED_OUT,
                ErrorCode.INVALID_RECORD,
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
            )
    assert len(values) > 20
