"""Random histories of producers, brokers that die, logs that lose what was not committed, and requests that come late.

What must hold: a transaction is committed everywhere or nowhere, and only if its producer asked for that; what a
producer was told is so; COMPLETE_* is written when all markers are; a producer's epoch never goes back.
"""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from ottla.coordinators.transactions.ports import EndedTransaction, TopicPartition
from ottla.coordinators.transactions.states import TransactionState
from ottla.coordinators.transactions.transaction import Transaction
from ottla.core.errors import ApiError, ErrorCode
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.transactions.partitions_model import PartitionsModel, Tag
from tests.unit.coordinators.transactions.transaction_fakes import MINUTE_MS, Node

PARTITIONS: list[TopicPartition] = [("jobs", 0), ("jobs", 1), ("other", 0)]
IDS = ["t", "u"]
OLD, NEW = 4, 5
"""Flows, by their version of EndTxn."""
CLIENTS_OF = [("t", OLD), ("t", NEW), ("u", OLD)]
RETRIED = {
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
}
Ask = Callable[[int], Answer]
"""Sends a request on a connection."""


class Client:
    """A producer that does one thing at a time, and sends what fails again until it is told yes or no."""

    def __init__(self, node: Node, transactional_id: str, flow: int) -> None:
        self.node, self.transactional_id, self.flow = node, transactional_id, flow
        self.producer: tuple[int, int] | None = None
        self.tag: Tag | None = None
        self.connection = 0
        self.ask: Ask | None = None
        self.take: Callable[[Answer], ErrorCode] | None = None
        self.answer: Answer | None = None

    @property
    def is_busy(self) -> bool:
        return self.ask is not None

    def give_up(self) -> None:
        self.producer = self.tag = self.ask = self.take = self.answer = None


class History:
    """One history; every method without an underscore is something that may happen."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.node = Node()
        self.node.markers.hold = True
        self.markers_flow = True
        self.partitions = PartitionsModel()
        self.clients = [Client(self.node, *which) for which in CLIENTS_OF]
        self.connections = 0
        self.tags = 0
        self.asked_to_commit: set[Tag] = set()
        self.told: dict[Tag, bool] = {}
        self.acknowledged: dict[Callable[[list[TopicPartition]], None], set[TopicPartition]] = {}
        """By sending."""
        self.looked_at = self.fenced = self.late_count = 0
        self.late: list[tuple[Client, int, Ask]] = []
        self.late_markers: list[EndedTransaction] = []
        self.marked: set[tuple[str, int, int, TopicPartition]] = set()
        """Markers that were acknowledged to the coordinator: id, number of ends before, epoch, partition."""
        for client in self.clients:
            self._connect(client)

    # --- producers

    def start(self, client: Client) -> None:
        client.give_up()
        self._send(client, lambda connection: self._init(client, None, connection), partial(self._started, client))

    def go_on(self, client: Client) -> None:
        producer = client.producer
        if producer is None or client.is_busy:
            return
        client.tag = None
        self._send(client, lambda connection: self._init(client, producer, connection), partial(self._started, client))

    def _init(self, client: Client, producer: tuple[int, int] | None, connection: int) -> Answer:
        return self.node.init(
            client.transactional_id, producer=producer or (-1, -1), version=client.flow, connection=connection
        )

    def _started(self, client: Client, answer: Answer) -> ErrorCode:
        if answer.code is ErrorCode.NONE:
            client.producer = (answer.take().producer_id, answer.take().producer_epoch)
        return answer.code

    def write(self, client: Client) -> None:
        partition = self.random.choice(PARTITIONS)
        if client.producer is None and not client.is_busy:
            self.start(client)
        producer = client.producer
        if producer is None or client.is_busy:
            return
        if client.tag is None:
            self.tags += 1
            client.tag = self.tags
        tag, version = client.tag, client.flow if client.flow == NEW else 3

        def added(answer: Answer) -> ErrorCode:
            (code,) = Node.added(answer.take(), version).values()
            if code is ErrorCode.NONE and not self.partitions.write(tag, partition, producer):
                return ErrorCode.INVALID_PRODUCER_EPOCH
            return code

        self._send(
            client,
            lambda connection: self.node.adding(
                producer,
                partition,
                transactional_id=client.transactional_id,
                version=version,
                connection=connection,
            ),
            added,
        )

    def end(self, client: Client) -> None:
        committed = self.random.random() < 0.5
        producer, tag = client.producer, client.tag
        if producer is None or client.is_busy or tag is None:
            return
        if committed:
            self.asked_to_commit.add(tag)

        def ended(answer: Answer) -> ErrorCode:
            if answer.code is ErrorCode.NONE:
                self._is_in_the_log(client, producer, committed)
                self.told[tag] = committed
                client.tag = None
                if client.flow == NEW:
                    client.producer = (answer.take().producer_id, answer.take().producer_epoch)
                    assert client.producer == (producer[0], producer[1] + 1)
            return answer.code

        self._send(
            client,
            lambda connection: self.node.end(
                producer,
                committed=committed,
                transactional_id=client.transactional_id,
                version=client.flow,
                connection=connection,
            ),
            ended,
        )

    def write_and_end(self, client: Client) -> None:
        self.write(client)
        self.end(client)

    def _is_in_the_log(self, client: Client, producer: tuple[int, int], committed: bool) -> None:
        epoch = producer[1] + (1 if client.flow == NEW else 0)
        assert any(
            item is not None
            and item.state.is_prepared
            and item.state.is_commit == committed
            and item.producer == (producer[0], epoch)
            for item in self.node.history(client.transactional_id, committed_only=True)
        )

    # --- the network

    def _send(self, client: Client, ask: Ask, take: Callable[[Answer], ErrorCode]) -> None:
        client.ask, client.take = ask, take
        self._ask(client)

    def _ask(self, client: Client) -> None:
        assert client.ask is not None
        if client.flow == NEW:
            self._may_come_late(client)
        client.answer = client.ask(client.connection)
        if self.random.random() < 0.15:
            self.a_connection_breaks(client)
        self._look()

    def _may_come_late(self, client: Client) -> None:
        assert client.ask is not None
        same = [item for item in self.late if item[0] is client][-4:]
        others = [item for item in self.late if item[0] is not client]
        self.late = [*others, *same, (client, client.connection, client.ask)]

    def _connect(self, client: Client) -> None:
        self.connections += 1
        client.connection = self.connections

    def retry(self, client: Client) -> None:
        if client.is_busy and client.answer is None:
            self._ask(client)

    def a_connection_breaks(self, client: Client) -> None:
        """What was not answered on it may come yet; the client sends it again on a new one."""
        if client.answer is not None and client.flow == OLD:
            self._may_come_late(client)
        self._connect(client)
        client.answer = None
        self.retry(client)

    def a_request_comes_once_more(self) -> None:
        """Late, on the connection on which it was sent; of the newer flow even one that was answered."""
        if self.late:
            _, connection, ask = self.random.choice(self.late)
            ask(connection)
            self.late_count += 1
            self._look()

    # --- the cluster

    def the_log_commits(self) -> None:
        """What it has; what is to come too, or it stalls."""
        self.node.log.auto_commit = self.random.random() < 0.5
        self.node.log.commit()
        self.node.run()
        self._look()

    def markers_flow_or_not(self) -> None:
        self.markers_flow = not self.markers_flow
        self._look()

    def an_append_fails(self) -> None:
        self.node.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]

    def time_passes(self) -> None:
        self.node.run(self.random.choice([1, 1, 1_000, 6_000, 61_000]))
        self._look()

    def the_coordinator_dies(self) -> None:
        lost = self.random.randint(0, self.node.uncommitted_batches)
        self.late_markers += [transaction for transaction, _, _ in self.node.markers.open.values()]
        self.node.restart(lost_batches=lost, auto_commit=self.node.log.auto_commit)
        # What the older flow sent to a node that died does not come to the next one.
        self.late = [item for item in self.late if item[0].flow == NEW]
        for client in self.clients:
            self._connect(client)
            client.answer = None
        self._look()

    def a_marker_arrives(self) -> None:
        if not self.node.markers.open:
            return
        transactional_id = self.random.choice(sorted(self.node.markers.open))
        transaction, written, _ = self.node.markers.open[transactional_id]
        partition = self.random.choice(transaction.partitions)
        assert self.partitions.end(transaction, partition), "the coordinator that leads is refused"
        if self.random.random() < 0.5:
            self._acknowledge(transaction, partition, written)
            self._look()

    def _acknowledge(
        self, transaction: EndedTransaction, partition: TopicPartition, written: Callable[[list[TopicPartition]], None]
    ) -> None:
        transactional_id = transaction.transactional_id
        ends = self._ends(self.node.history(transactional_id))
        self.marked.add((transactional_id, ends, transaction.producer_epoch, partition))
        acknowledged = self.acknowledged.setdefault(written, set())
        acknowledged.add(partition)
        if acknowledged == set(transaction.partitions):
            del self.node.markers.open[transactional_id]  # the sender has done
        written([partition])
        self.node.run()

    def _write_markers(self) -> None:
        """All that are on their way."""
        for transaction, written, _ in list(self.node.markers.open.values()):
            for partition in sorted(set(transaction.partitions) - self.acknowledged.get(written, set())):
                assert self.partitions.end(transaction, partition), "the coordinator that leads is refused"
                self._acknowledge(transaction, partition, written)

    def a_marker_of_a_former_coordinator_arrives(self) -> None:
        if self.late_markers:
            transaction = self.random.choice(self.late_markers)
            self.partitions.end(transaction, self.random.choice(transaction.partitions))

    # --- answers

    def _look(self) -> None:
        if self.markers_flow:
            self._write_markers()
        for client in self.clients:
            if client.answer is not None and client.answer.arrived:
                assert client.take is not None
                code = client.take(client.answer)
                client.answer = None
                if code is ErrorCode.NONE:
                    client.ask = client.take = None
                elif code not in RETRIED:
                    client.give_up()
                    self.fenced += 1

    # --- what must hold

    @staticmethod
    def _ends(history: list[Transaction | None]) -> int:
        return sum(item is not None and item.state.is_prepared for item in history)

    def check(self) -> None:
        if self.node.log.log_end_offset == self.looked_at:
            return
        self.looked_at = self.node.log.log_end_offset
        for transactional_id in IDS:
            last: Transaction | None = None
            ends = 0
            for item in self.node.history(transactional_id):
                assert item is not None
                if last is not None:
                    assert (item.producer_id, item.producer_epoch) >= (last.producer_id, last.producer_epoch)
                ends += item.state.is_prepared
                if item.state.is_complete:
                    assert last is not None
                    assert last.state.is_prepared
                    assert last.state.is_commit == item.state.is_commit
                    for partition in last.partitions:
                        assert (transactional_id, ends, last.producer_epoch, partition) in self.marked
                last = item

    def finish(self) -> None:
        """Everybody falls silent: all transactions end, and are the same everywhere."""
        node = self.node
        node.log.refusals = []
        node.log.auto_commit = True
        node.log.commit()
        for _ in range(4):
            node.run(MINUTE_MS)
            self._write_markers()
        live = {transactional_id: node.shard.transactions.get(transactional_id) for transactional_id in IDS}
        for transaction in live.values():
            assert transaction is None or transaction.state not in (
                TransactionState.ONGOING,
                TransactionState.PREPARE_COMMIT,
                TransactionState.PREPARE_ABORT,
            )
        for tag, partitions in self.partitions.written.items():
            ends = self.partitions.ended[tag]
            assert set(ends) == partitions, "a transaction hangs"
            (committed,) = set(ends.values())
            assert not committed or tag in self.asked_to_commit, "committed without being asked"
            assert self.told.get(tag, committed) == committed, "its producer was told otherwise"
        node.restart()
        assert live == {name: node.shard.transactions.get(name) for name in IDS}, "loading sees something else"

    # --- a history

    def step(self) -> None:
        """Something happens."""
        happens = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if happens in OF_A_CLIENT:
            getattr(self, happens)(self.random.choice(self.clients))
        else:
            getattr(self, happens)()
        self.check()


OF_A_CLIENT = {"write_and_end", "write", "end", "start", "go_on", "retry", "a_connection_breaks"}
WEIGHTS = {
    "write_and_end": 6,
    "write": 6,
    "end": 4,
    "start": 1,
    "go_on": 1,
    "retry": 6,
    "a_connection_breaks": 3,
    "a_request_comes_once_more": 6,
    "the_log_commits": 5,
    "markers_flow_or_not": 1,
    "an_append_fails": 1,
    "time_passes": 2,
    "the_coordinator_dies": 1,
    "a_marker_arrives": 3,
    "a_marker_of_a_former_coordinator_arrives": 1,
}


@pytest.mark.parametrize("seed", range(150))
def test_transactions_are_whole_and_end_as_they_should(seed: int) -> None:
    history = History(seed)
    for _ in range(120):
        history.step()
    history.finish()


def test_the_histories_have_what_they_are_to_test() -> None:
    """Else the test above proves little."""
    told: Counter[bool] = Counter()
    deaths = fenced = late = 0
    for seed in range(20):
        history = History(seed)
        for _ in range(120):
            history.step()
        told.update(history.told.values())
        deaths += history.node.epoch - 5
        fenced += history.fenced
        late += history.late_count
    assert min(told[True], told[False]) >= 40
    assert min(deaths, fenced, late) >= 20
