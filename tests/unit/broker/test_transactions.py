"""Transactions on one broker: coordinator, markers and partitions together, as requests see them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.broker.find_coordinator import KeyType
from ottla.broker.transactions.handlers import PATIENCE_MS
from ottla.broker.transactions.partitions import MAX_NAMED
from ottla.controller.requests import NewTopic, TopicRef
from ottla.core.errors import ErrorCode
from ottla.core.types import NodeId
from ottla.partitions.partition import Partition
from ottla.partitions.results import Origin
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.add_offsets_to_txn_request import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn_request import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.protocol.messages.describe_producers_request import DescribeProducersRequest
from ottla.protocol.messages.describe_producers_request import TopicRequest as DescribeProducersTopic
from ottla.protocol.messages.describe_transactions_request import DescribeTransactionsRequest
from ottla.protocol.messages.end_txn_request import EndTxnRequest
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.list_transactions_request import ListTransactionsRequest
from ottla.records.batch import encode_batch
from ottla.records.record import Record
from tests.sim.log_harness import append_verified
from tests.unit.broker.one_broker import context, start_broker
from tests.unit.broker.test_several_replicas import Follower

ID = "an id"


class Rig:
    """A broker with a topic of two partitions and a producer."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.producer_id = self.producer_epoch = -1

    async def ask(self, key: ApiKey, request: Any, version: int = 0, asker: RequestContext | None = None) -> Any:
        return await self.broker.handle(key, request, asker or context(version))

    async def begin(self) -> None:
        request = FindCoordinatorRequest(key=ID, key_type=KeyType.TRANSACTION)
        found = await self.ask(ApiKey.FIND_COORDINATOR, request, 3)
        assert (found.error_code, found.node_id) == (0, 1)
        init = InitProducerIdRequest(transactional_id=ID, transaction_timeout_ms=60_000)
        answer = await self.loaded(lambda: self.ask(ApiKey.INIT_PRODUCER_ID, init, 5))
        assert answer.error_code == 0
        self.producer_id, self.producer_epoch = answer.producer_id, answer.producer_epoch

    async def loaded(self, attempt: Callable[[], Any]) -> Any:
        """The answer once the shard is loaded."""
        while True:
            answer = await attempt()
            if answer.error_code not in (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR):
                return answer
            await asyncio.sleep(0.01)

    async def add(self, *partitions: tuple[str, int], version: int = 0) -> dict[tuple[str, int], ErrorCode]:
        answer = await self.ask(
            ApiKey.ADD_PARTITIONS_TO_TXN,
            AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=ID,
                v3_and_below_producer_id=self.producer_id,
                v3_and_below_producer_epoch=self.producer_epoch,
                v3_and_below_topics=_topics(*partitions),
            ),
            version,
        )
        return {
            (topic.name, one.partition_index): ErrorCode(one.partition_error_code)
            for topic in answer.results_by_topic_v3_and_below
            for one in topic.results_by_partition
        }

    async def add_by_node(
        self, *partitions: tuple[str, int], verify_only: bool = False
    ) -> dict[tuple[str, int], ErrorCode]:
        transaction = AddPartitionsToTxnTransaction(
            transactional_id=ID,
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            verify_only=verify_only,
            topics=_topics(*partitions),
        )
        request = AddPartitionsToTxnRequest(transactions=[transaction])
        asker = replace(context(5), node=NodeId(2))
        answer = await self.ask(ApiKey.ADD_PARTITIONS_TO_TXN, request, asker=asker)
        return {
            (topic.name, one.partition_index): ErrorCode(one.partition_error_code)
            for result in answer.results_by_transaction
            for topic in result.topic_results
            for one in topic.results_by_partition
        }

    def write(self, index: int = 0) -> Partition:
        """Append a record of the transaction, as Produce does when it is verified."""
        batch = encode_batch(
            [Record(timestamp=0, key=None, value=b"x")],
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            is_transactional=True,
        )
        partition = self.partition(index)
        append_verified(partition, batch, origin=Origin.COORDINATOR)
        return partition

    def partition(self, index: int = 0) -> Partition:
        found = self.broker.partitions.get("t", index)
        assert found is not None
        return found

    async def end(self, *, committed: bool = True, version: int = 3) -> ErrorCode:
        answer = await self.ask(
            ApiKey.END_TXN,
            EndTxnRequest(
                transactional_id=ID,
                producer_id=self.producer_id,
                producer_epoch=self.producer_epoch,
                committed=committed,
            ),
            version,
        )
        if version >= 5 and not answer.error_code:
            self.producer_id, self.producer_epoch = answer.producer_id, answer.producer_epoch
        return ErrorCode(answer.error_code)

    async def state(self) -> str:
        request = DescribeTransactionsRequest(transactional_ids=[ID])
        (found,) = (await self.ask(ApiKey.DESCRIBE_TRANSACTIONS, request)).transaction_states
        return str(found.transaction_state)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0.005)
        pytest.fail("it did not come about")


def _topics(*partitions: tuple[str, int]) -> list[AddPartitionsToTxnTopic]:
    return [AddPartitionsToTxnTopic(name=name, partitions=[index]) for name, index in partitions]


@pytest.fixture
async def rig() -> Rig:
    broker = await start_broker(configs={"transaction.state.log.num.partitions": "3"})
    await broker.controller.local.create_topics([NewTopic(name="t", partitions=2, replication_factor=1)])
    rig = Rig(broker)
    await rig.begin()
    return rig


async def test_the_coordinators_topic_is_created_when_it_is_first_asked_for(rig: Rig) -> None:
    topic = rig.broker.image.topics["__transaction_state"]
    assert (len(topic.partitions), topic.internal) == (3, True)
    configs = rig.broker.configs.topic_configs("__transaction_state")
    assert (configs["cleanup.policy"], configs["min.insync.replicas"]) == ("compact", "1")


async def test_the_coordinator_leads_a_new_topic_as_soon_as_the_files_of_its_namesake_are_gone(rig: Rig) -> None:
    await rig.broker.controller.local.delete_topics([TopicRef(name="__transaction_state")])
    async with asyncio.timeout(5):
        await rig.begin()


@pytest.mark.parametrize(("version", "epoch"), [(3, 0), (5, 1)])
@pytest.mark.parametrize("committed", [True, False])
async def test_a_transaction_ends_on_all_of_its_partitions(rig: Rig, version: int, epoch: int, committed: bool) -> None:
    assert await rig.add(("t", 0), ("t", 1)) == {("t", 0): ErrorCode.NONE, ("t", 1): ErrorCode.NONE}
    first, second = rig.write(0), rig.write(1)
    await rig.until(lambda: first.high_watermark == 1)
    assert (first.last_stable_offset, await rig.state()) == (0, "Ongoing")
    assert await rig.end(committed=committed, version=version) is ErrorCode.NONE
    await rig.until(lambda: first.last_stable_offset == second.last_stable_offset == 2)
    assert [len(one.aborted) for one in (first, second)] == ([0, 0] if committed else [1, 1])
    assert rig.producer_epoch == epoch


@contextmanager
def held_appends(monkeypatch: pytest.MonkeyPatch, partition: Partition) -> Iterator[list[Callable[[], object]]]:
    """What is appended to the partition meanwhile is held: calls that do it."""
    holding: list[Callable[[], object]] = []
    append = Partition.append

    def held(self: Partition, batch: memoryview, **options: Any) -> Any:
        if self is not partition:
            return append(self, batch, **options)
        holding.append(lambda: append(self, batch, **options))
        return None

    with monkeypatch.context() as patched:
        patched.setattr(Partition, "append", held)
        yield holding


@pytest.mark.interpreted
async def test_the_next_transaction_waits_for_the_end_of_the_one_before(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.add(("t", 0))
    partition = rig.write(0)
    with held_appends(monkeypatch, partition) as holding:
        await rig.end()
        adding = asyncio.get_running_loop().create_task(rig.add(("t", 1)))
        await rig.until(lambda: bool(holding))
        await asyncio.sleep(0.02)
        assert not adding.done()
    holding[0]()
    async with asyncio.timeout(PATIENCE_MS / 1000):
        assert await adding == {("t", 1): ErrorCode.NONE}


@pytest.mark.interpreted
async def test_what_a_client_waited_for_is_not_done_when_it_is_gone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its InitProducerId, done late, would fence whoever has begun in its place."""
    await rig.add(("t", 0))
    partition = rig.write(0)
    with held_appends(monkeypatch, partition) as holding:
        beginning = asyncio.get_running_loop().create_task(rig.begin())
        await rig.until(lambda: bool(holding))
        beginning.cancel()
        await asyncio.wait([beginning])
    holding[0]()
    await rig.until(lambda: partition.last_stable_offset == 2)
    await asyncio.sleep(0.05)
    assert await rig.state() == "CompleteAbort"


async def test_partitions_that_do_not_exist_are_in_no_transaction(rig: Rig) -> None:
    unknown = {
        ("t", 0): ErrorCode.OPERATION_NOT_ATTEMPTED,
        ("t", 2): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("u", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert await rig.add(*unknown) == unknown
    assert await rig.add_by_node(*unknown) == unknown
    assert await rig.state() == "Empty"


async def test_a_client_that_names_a_million_partitions_is_refused_at_once(rig: Rig) -> None:
    await rig.begin()
    indexes = [0] * 1_000_000
    topics = [AddPartitionsToTxnTopic(name="t", partitions=indexes), AddPartitionsToTxnTopic(name="t", partitions=[1])]
    older = AddPartitionsToTxnRequest(
        v3_and_below_transactional_id=ID,
        v3_and_below_producer_id=rig.producer_id,
        v3_and_below_producer_epoch=rig.producer_epoch,
        v3_and_below_topics=topics,
    )
    started = time.process_time()
    answer = await rig.ask(ApiKey.ADD_PARTITIONS_TO_TXN, older, 3)
    assert time.process_time() - started < 0.3  # it took seconds
    (topic,) = answer.results_by_topic_v3_and_below
    codes = {one.partition_error_code for one in topic.results_by_partition}
    assert (len(topic.results_by_partition), codes) == (MAX_NAMED, {ErrorCode.INVALID_REQUEST})

    transaction = AddPartitionsToTxnTransaction(
        transactional_id=ID, producer_id=rig.producer_id, producer_epoch=rig.producer_epoch, topics=topics
    )
    newer = AddPartitionsToTxnRequest(transactions=[transaction])
    answer = await rig.ask(ApiKey.ADD_PARTITIONS_TO_TXN, newer, 5)
    assert (answer.error_code, answer.results_by_transaction) == (ErrorCode.INVALID_REQUEST, [])
    assert await rig.state() == "Empty"


async def test_other_nodes_add_and_verify(rig: Rig) -> None:
    assert await rig.add_by_node(("t", 0)) == {("t", 0): ErrorCode.NONE}
    assert await rig.add_by_node(("t", 0), ("t", 1), verify_only=True) == {
        ("t", 0): ErrorCode.NONE,
        ("t", 1): ErrorCode.TRANSACTION_ABORTABLE,
    }


async def test_this_node_verifies_without_the_mesh(rig: Rig) -> None:
    codes: dict[int, ErrorCode] = {}
    verifier, producer = rig.broker.verifier, (ID, rig.producer_id, rig.producer_epoch)
    verifier.ask(*producer, "t", 0, False, lambda code: codes.__setitem__(0, code))
    await rig.until(lambda: 0 in codes)
    verifier.ask(*producer, "t", 1, True, lambda code: codes.__setitem__(1, code))
    verifier.ask(*producer, "t", 0, True, lambda code: codes.__setitem__(2, code))
    await rig.until(lambda: len(codes) == 3)
    assert codes == {0: ErrorCode.NONE, 1: ErrorCode.INVALID_TXN_STATE, 2: ErrorCode.NONE}


async def test_what_a_client_added_its_leader_need_not_ask_for(rig: Rig) -> None:
    """Until the transaction is over, also where nothing was written."""

    def asks(index: int) -> bool:
        ids = rig.producer_id, rig.producer_epoch
        return rig.partition(index).admit(*ids, -1, adds=False, resume=lambda *_: None) > 0

    assert await rig.add(("t", 0), ("t", 1)) == {("t", 0): ErrorCode.NONE, ("t", 1): ErrorCode.NONE}
    assert [len(rig.partition(n).verifications) for n in (0, 1)] == [1, 1]
    rig.write(0)
    assert await rig.end() is ErrorCode.NONE
    await rig.until(lambda: rig.partition(1).log_end_offset == 1)  # the marker
    assert [asks(0), asks(1)] == [True, True]


async def test_a_second_producer_of_the_id_fences_the_first_and_aborts_its_transaction(rig: Rig) -> None:
    await rig.add(("t", 0))
    partition = rig.write(0)
    zombie = rig.producer_epoch
    await rig.begin()
    assert rig.producer_epoch > zombie
    await rig.until(lambda: partition.last_stable_offset == 2)
    assert len(partition.aborted) == 1
    rig.producer_epoch = zombie
    assert await rig.add(("t", 0), version=3) == {("t", 0): ErrorCode.PRODUCER_FENCED}
    assert await rig.end() is ErrorCode.PRODUCER_FENCED


async def test_offsets_need_the_groups_topic(rig: Rig) -> None:
    request = AddOffsetsToTxnRequest(
        transactional_id=ID, producer_id=rig.producer_id, producer_epoch=rig.producer_epoch, group_id="g"
    )
    answer = await rig.ask(ApiKey.ADD_OFFSETS_TO_TXN, request)
    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    await rig.ask(ApiKey.FIND_COORDINATOR, FindCoordinatorRequest(key="g"), 3)
    assert (await rig.ask(ApiKey.ADD_OFFSETS_TO_TXN, request)).error_code == 0
    assert await rig.end() is ErrorCode.NONE
    offsets = [one for one in rig.broker.partitions if one.topic == "__consumer_offsets"]
    await rig.until(lambda: sum(one.last_stable_offset for one in offsets) == 1)


async def test_transactions_are_listed(rig: Rig) -> None:
    await rig.add(("t", 0))
    (listed,) = (await rig.ask(ApiKey.LIST_TRANSACTIONS, ListTransactionsRequest())).transaction_states
    assert (listed.transactional_id, listed.producer_id, listed.transaction_state) == (ID, rig.producer_id, "Ongoing")


async def test_a_partition_tells_of_its_producers_and_their_open_transactions(rig: Rig) -> None:
    topic = DescribeProducersTopic(name="t", partition_indexes=[0, 9])

    async def described() -> list[tuple[int, int, int]]:
        answer = await rig.ask(ApiKey.DESCRIBE_PRODUCERS, DescribeProducersRequest(topics=[topic]))
        known, unknown = answer.topics[0].partitions
        assert (known.error_code, unknown.error_code) == (0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return [(one.producer_id, one.producer_epoch, one.current_txn_start_offset) for one in known.active_producers]

    await rig.add(("t", 0))
    partition = rig.write(0)
    assert await described() == [(rig.producer_id, 0, 0)]
    partition.become_follower(1, Follower())
    assert await described() == [(rig.producer_id, 0, 0)]
    partition.become_leader(2, None)
    await rig.end(version=5)
    await rig.until(lambda: partition.last_stable_offset == 2)
    assert await described() == [(rig.producer_id, 1, -1)]
