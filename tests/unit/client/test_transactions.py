"""What a producer promises of its transactions, against a cluster in memory."""

import asyncio
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
    Producer,
    ProducerFenced,
    Remedy,
    TopicPartition,
    TransactionAborted,
    TransactionsFailed,
    TransactionUnfinished,
)
from ottla.client.sync import Producer as BlockingProducer
from ottla.client.transport import ProduceRequest
from ottla.records.batch import read_header
from tests.unit.client.fake_cluster import FakeCluster

T0 = TopicPartition("t", 0)
FAST: dict[str, Any] = {
    "transactional_id": "x",
    "linger_ms": 0,
    "retry_backoff_ms": 1,
    "retry_backoff_max_ms": 5,
    "api_timeout_ms": 50,
}


async def refuse(request: ProduceRequest) -> ClientError:
    return ClientError(ErrorCode.INVALID_PRODUCER_EPOCH)


async def test_a_block_is_one_transaction_and_the_next_has_another_epoch() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        async with producer.transaction() as transaction:
            await transaction.send("t", b"a")
            await transaction.send("t", b"b")
        async with producer.transaction():
            await producer.send("t", b"c")
    assert cluster.transactions.ended == [(0, True), (1, True)]
    headers = [read_header(batch) for batch in cluster.log("t").batches]
    assert all(header.is_transactional for header in headers)
    assert {request.transactional_id for request in cluster.requests} == {"x"}
    assert [(header.producer_epoch, header.base_sequence) for header in headers][-1] == (1, 0)
    assert cluster.values("t") == [b"a", b"b", b"c"]


async def test_an_exception_aborts_and_what_was_not_sent_is_dropped() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **{**FAST, "linger_ms": 1_000}) as producer:
        with pytest.raises(KeyError):
            async with producer.transaction() as transaction:
                await transaction.send("t", b"a")
                await producer.flush()
                waits = await transaction.send("t", b"never sent")
                raise KeyError
        with pytest.raises(TransactionAborted):
            await waits
        async with producer.transaction() as transaction:
            await transaction.send("t", b"b")
    assert cluster.transactions.ended == [(0, False), (1, True)]
    assert cluster.values("t") == [b"a", b"b"]


async def test_a_transaction_of_nothing_asks_nobody() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        async with producer.transaction():
            pass
        with pytest.raises(KeyError):
            async with producer.transaction():
                raise KeyError
    assert cluster.transactions.ended == []


async def test_records_outside_of_a_transaction_are_refused() -> None:
    async with Producer(transport=FakeCluster(t=1), **FAST) as producer:
        with pytest.raises(ClientError, match=r"producer\.transaction"):
            await producer.send("t", b"a")
        producer.begin_transaction()
        with pytest.raises(ClientError, match="commit or abort it first"):
            producer.begin_transaction()
        await producer.send_and_wait("t", b"a")
        await producer.commit_transaction()
        with pytest.raises(ClientError, match="no transaction is open"):
            await producer.commit_transaction()


async def test_what_was_consumed_is_committed_with_what_was_made_of_it() -> None:
    cluster = FakeCluster(t=1)
    group = GroupMetadata(group_id="g", member_id="m", member_epoch=3)
    async with Producer(transport=cluster, **FAST) as producer:
        cluster.transactions.offset_faults.append(ClientError(ErrorCode.NOT_COORDINATOR))
        async with producer.transaction() as transaction:
            await transaction.send_offsets({T0: 5}, group)
            assert cluster.transactions.committed == {}
        assert cluster.transactions.committed == {T0: OffsetAndMetadata(5)}
        with pytest.raises(KeyError):
            async with producer.transaction() as transaction:
                await transaction.send_offsets({T0: 9}, group)
                raise KeyError
    assert cluster.transactions.committed == {T0: OffsetAndMetadata(5)}
    assert cluster.transactions.groups == [group, group]


async def test_offsets_that_would_count_twice_or_never_are_refused_with_the_remedy() -> None:
    cluster = FakeCluster(t=1)
    group = GroupMetadata(group_id="g")
    async with (
        Producer(transport=cluster, **FAST) as producer,
        Consumer("t", transport=cluster, group_id="g", client_id="both") as consumer,
    ):

        async def send(offset: int, whose: Any) -> None:
            async with producer.transaction() as transaction:
                await transaction.send_offsets({T0: offset}, whose)

        with pytest.raises(ConfigError, match="enable_auto_commit=False"):
            await send(5, consumer)
        with pytest.raises(TypeError, match=r"give the consumer, or GroupMetadata\(group_id='g'\)"):
            await send(5, "g")
        with pytest.raises(ValueError, match="t-0: an offset is at least 0, not -1"):
            await send(-1, group)
    assert cluster.transactions.committed == {}


async def test_a_stale_member_is_asked_for_its_new_epoch() -> None:
    cluster = FakeCluster(t=1)
    epochs = iter([1, 1, 2])

    class Member:
        commits_by_itself = False

        def group_metadata(self) -> GroupMetadata:
            return GroupMetadata(group_id="g", member_id="m", member_epoch=next(epochs))

    stale = ClientError(ErrorCode.STALE_MEMBER_EPOCH)

    async def commit_offsets(node_id: int, producer: object, group: GroupMetadata, offsets: Any) -> Any:
        return dict.fromkeys(offsets, None if group.member_epoch == 2 else stale)

    cluster.transactions.commit_offsets = commit_offsets  # type: ignore[method-assign]
    async with Producer(transport=cluster, **FAST) as producer, producer.transaction() as transaction:
        await transaction.send_offsets({T0: 5}, Member())


async def test_offsets_of_a_deleted_topic_abort_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(t=1)
    monkeypatch.setattr("ottla.client.coordinators.NEW_TOPIC_S", 0.02)

    async def commit_offsets(node_id: int, producer: object, group: object, offsets: Any) -> Any:
        return {one: ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic="t", partition=0) for one in offsets}

    cluster.transactions.commit_offsets = commit_offsets  # type: ignore[method-assign]
    patient: dict[str, Any] = {**FAST, "api_timeout_ms": 60_000}
    async with asyncio.timeout(5), Producer(transport=cluster, **patient) as producer:
        with pytest.raises(TransactionAborted, match="t-0: UNKNOWN_TOPIC_OR_PARTITION"):
            async with producer.transaction() as transaction:
                await transaction.send_offsets({T0: 5}, GroupMetadata(group_id="g"))


async def test_a_member_that_was_dropped_aborts_the_transaction() -> None:
    cluster = FakeCluster(t=1)

    class Dropped:
        commits_by_itself = False

        def group_metadata(self) -> GroupMetadata:
            raise CommitFailed(ClientError(ErrorCode.UNKNOWN_MEMBER_ID))

    async with Producer(transport=cluster, **FAST) as producer:
        with pytest.raises(TransactionAborted) as caught:
            async with producer.transaction() as transaction:
                await transaction.send_and_wait("t", b"a")
                await transaction.send_offsets({T0: 5}, Dropped())
    assert (caught.value.remedy, caught.value.code) == (Remedy.ABORT, ErrorCode.UNKNOWN_MEMBER_ID)
    assert cluster.transactions.ended == [(0, False)]


async def test_a_lost_batch_aborts_the_block_and_the_next_one_goes_on() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        cluster.faults.append(refuse)
        with pytest.raises(TransactionAborted) as caught:
            async with producer.transaction() as transaction:
                await transaction.send("t", b"lost")
        assert (caught.value.remedy, caught.value.code) == (Remedy.ABORT, ErrorCode.INVALID_PRODUCER_EPOCH)
        assert cluster.transactions.ended == [(0, False)]
        async with producer.transaction() as transaction:
            await transaction.send("t", b"kept")
    assert cluster.values("t") == [b"kept"]


async def test_after_a_lost_batch_nothing_more_is_sent() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        producer.begin_transaction()
        cluster.faults.append(refuse)
        with pytest.raises(ClientError):
            await producer.send_and_wait("t", b"lost")
        for operation in (producer.send("t", b"more"), producer.commit_transaction()):
            with pytest.raises(TransactionAborted):
                await operation
        await producer.abort_transaction()
        producer.begin_transaction()


async def test_a_lost_answer_to_the_commit_does_not_commit_twice() -> None:
    cluster = FakeCluster(t=1)
    cluster.transactions.lose_answers.extend([True, True])
    async with Producer(transport=cluster, **FAST) as producer:
        async with producer.transaction() as transaction:
            await transaction.send("t", b"a")
        async with producer.transaction() as transaction:
            await transaction.send("t", b"b")
    assert cluster.transactions.ended == [(0, True), (1, True)]


async def test_a_commit_that_is_not_confirmed_is_to_be_asked_for_again() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        producer.begin_transaction()
        await producer.send("t", b"a")
        cluster.transactions.end_faults.extend([ClientError(ErrorCode.NETWORK_EXCEPTION)] * 1000)
        with pytest.raises(TransactionUnfinished) as caught:
            await producer.commit_transaction()
        assert (caught.value.remedy, caught.value.retriable) == (Remedy.RETRY, True)
        with pytest.raises(ClientError, match="may be done: call commit_transaction again"):
            await producer.abort_transaction()
        cluster.transactions.end_faults.clear()
        await producer.commit_transaction()
    assert cluster.transactions.ended == [(0, True)]


async def test_a_transaction_that_the_cluster_aborted_is_told_and_the_producer_goes_on() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        cluster.transactions.end_faults.append(ClientError(ErrorCode.INVALID_TXN_STATE))
        with pytest.raises(TransactionAborted):
            async with producer.transaction() as transaction:
                await transaction.send("t", b"too late")
        async with producer.transaction() as transaction:
            await transaction.send("t", b"a")
    assert cluster.transactions.ended == [(0, False), (1, True)]


async def test_a_newer_producer_fences_this_one() -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as first:
        async with Producer(transport=cluster, **FAST):
            pass
        for _ in range(2):
            with pytest.raises(ProducerFenced) as caught:
                async with first.transaction() as transaction:
                    await transaction.send("t", b"a")
        assert caught.value.remedy is Remedy.CLOSE
        assert str(caught.value).count("a newer producer has the transactional_id") == 1
        with pytest.raises(ProducerFenced):
            await first.abort_transaction()


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_fenced_producer_whose_batch_was_refused_is_told_that_it_is_fenced(awaited: bool) -> None:
    cluster = FakeCluster(t=1)
    async with Producer(transport=cluster, **FAST) as producer:
        cluster.transactions.epochs["x"] += 1
        cluster.faults.append(refuse)
        with pytest.raises(ProducerFenced):
            async with producer.transaction() as transaction:
                delivery = await transaction.send("t", b"a")
                if awaited:
                    await delivery


async def test_starting_waits_for_the_coordinator_and_tells_what_it_will_not_do() -> None:
    cluster = FakeCluster(t=1)
    later = [ClientError(ErrorCode.CONCURRENT_TRANSACTIONS), ClientError(ErrorCode.NOT_COORDINATOR)]
    cluster.transactions.init_faults.extend(later)
    async with Producer(transport=cluster, **FAST):
        pass
    cluster.transactions.init_faults.append(ClientError(ErrorCode.INVALID_TRANSACTION_TIMEOUT))
    with pytest.raises(TransactionsFailed):
        await Producer(transport=cluster, **FAST).start()


async def test_closing_aborts_what_is_open() -> None:
    cluster = FakeCluster(t=1)
    async with asyncio.timeout(3), Producer(transport=cluster, **FAST) as producer:
        producer.begin_transaction()
        await producer.send_and_wait("t", b"a")
    assert cluster.transactions.ended == [(0, False)]


def test_a_blocking_producer_has_transactions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(t=1)
    monkeypatch.setattr("ottla.client.producer.open_transport", lambda config: cluster)
    with BlockingProducer(**FAST) as producer:
        with producer.transaction() as transaction:
            transaction.send("t", b"a")
            transaction.send_offsets({T0: 1}, GroupMetadata(group_id="g"))
        with pytest.raises(KeyError), producer.transaction() as transaction:
            transaction.send("t", b"b").result(5)
            raise KeyError
    assert cluster.transactions.ended == [(0, True), (1, False)]


def test_a_blocking_producer_does_not_commit_without_a_record_that_was_not_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = FakeCluster(t=1)
    monkeypatch.setattr("ottla.client.producer.open_transport", lambda config: cluster)
    with BlockingProducer(**FAST) as producer:
        with pytest.raises(TransactionAborted) as caught, producer.transaction() as transaction:
            transaction.send("t", b"a").result(5)
            transaction.send("t", b"b", partition=7)  # refused on the loop, later; nobody looks at its delivery
        assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        with pytest.raises(ClientError, match="no transaction is open"):
            producer.send("t", b"c")
    assert cluster.transactions.ended == [(0, False)]


async def test_settings_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="transactional_id is empty"):
        Producer(transactional_id="")
    with pytest.raises(ConfigError, match="need enable_idempotence"):
        Producer(transactional_id="x", enable_idempotence=False)
    async with Producer(transport=FakeCluster(t=1)) as producer:
        with pytest.raises(ClientError, match="give the producer a transactional_id"):
            producer.transaction()
