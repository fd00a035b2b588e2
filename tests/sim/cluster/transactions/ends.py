"""No marker leaves a coordinator before the end of its transaction is in a committed record of `__transaction_state`.

What comes of a marker that is sent too early is seen only if the record is lost afterwards, and the transaction then
ends the other way. So it is the sending that is looked at, and all that was ever committed: a coordinator that does not
know yet that another one has completed the transaction may send its markers again.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ottla.coordinators.transactions.ports import EndedTransaction, TopicPartition
from ottla.coordinators.transactions.records import TransactionRecordCodec
from ottla.coordinators.transactions.service import TRANSACTION_STATE
from ottla.coordinators.transactions.transaction import Transaction, from_value
from ottla.partitions.partition import Partition
from ottla.records.batch import decode_records
from tests.sim.raft.violation import Violation

if TYPE_CHECKING:
    from tests.sim.cluster.host import Process


class End(NamedTuple):
    """How a transaction ends, under the producer id and epoch of its markers, and where it needs one.

    The epoch is another one for each transaction: its end raises it, or its timeout does.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    committed: bool
    partitions: frozenset[TopicPartition]


def ends_in(partition: Partition, batch: memoryview) -> tuple[End, ...]:
    """The ends that a batch of `__transaction_state` prepares; none in any other topic."""
    if partition.topic != TRANSACTION_STATE:
        return ()
    codec, ends = TransactionRecordCodec(), []
    for record in decode_records(batch):
        decoded = codec.decode(record.key or b"", record.value)
        if decoded is not None and decoded.value is not None:
            transaction = from_value(decoded.value)
            if transaction.state.is_prepared:
                ends.append(_end(decoded.key.transactional_id, transaction, transaction.state.is_commit))
    return tuple(ends)


def _end(transactional_id: str, one: Transaction | EndedTransaction, committed: bool) -> End:
    return End(transactional_id, one.producer_id, one.producer_epoch, committed, frozenset(one.partitions))


class Ends:
    """Of all coordinators and all times."""

    def __init__(self) -> None:
        self._committed: set[End] = set()
        self._sent: dict[tuple[int, int], dict[str, EndedTransaction]] = {}  # by node and life: checked already

    def committed(self, ends: Iterable[End]) -> None:
        """A replica has these below its high watermark."""
        self._committed.update(ends)

    def look(self, process: "Process") -> None:
        """After each step, and after its replicas: a marker travels a turn later than it is asked for."""
        kept = process.broker.extensions.get("transactions")
        if kept is None:
            return
        sent = self._sent.setdefault((process.host.node, process.life), {})
        for name, sending in kept.markers._sendings.items():
            one = sending.transaction
            if sent.get(name) is one:
                continue
            sent[name] = one
            if _end(name, one, one.committed) not in self._committed:
                raise Violation(
                    "markers follow the end",
                    f"node {process.host.node} sends markers, and no record is committed: {one}",
                )
