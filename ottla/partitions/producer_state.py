"""What a partition remembers of each producer: its epoch, its last five batches, its open transaction.

Kafka's rules for idempotent producers (KIP-98, KIP-360, KIP-890): a batch that repeats one of the last five is a
duplicate, a gap in the sequence is refused, an older epoch is fenced. Transactions bound the last stable offset: it
stays at the first offset of the oldest transaction that is open, or whose marker is not below the high watermark yet.
State changes only by `record`, on append and on recovery alike.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.partitions.results import Origin
from ottla.records.control import EndTransactionMarker
from ottla.records.header import BatchHeader

BATCHES_REMEMBERED = 5
NO_EPOCH = -1
NO_SEQUENCE = -1
_MAX_SEQUENCE = 2**31 - 1


@dataclass(slots=True)
class ProducedBatch:
    """Where an earlier batch of a producer went."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @property
    def base_offset(self) -> int:
        return self.last_offset - self.offset_delta

    @property
    def base_sequence(self) -> int:
        first = self.last_sequence - self.offset_delta
        return first if first >= 0 else first + _MAX_SEQUENCE + 1


@dataclass(slots=True)
class Producer:
    """State of one producer id."""

    producer_id: int
    epoch: int = NO_EPOCH
    coordinator_epoch: int = -1
    last_timestamp: int = -1
    transaction_first_offset: int | None = None
    batches: deque[ProducedBatch] = field(default_factory=lambda: deque(maxlen=BATCHES_REMEMBERED))

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE


@dataclass(frozen=True, slots=True)
class AbortedTransaction:
    """An entry of the transaction index: records of the producer in [first, last] are to be skipped."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class ProducerStates:
    """All producers of one partition."""

    __slots__ = ("_ended", "_open", "end_offset", "producers")

    def __init__(self) -> None:
        self.producers: dict[int, Producer] = {}
        self.end_offset = 0  # state as of this offset
        self._open: dict[int, int] = {}  # first offset → producer id; ascending, as offsets are
        self._ended: deque[tuple[int, int]] = deque()  # (first offset, offset of the marker), not replicated yet

    def __iter__(self) -> Iterator[Producer]:
        """Every producer."""
        yield from self.producers.values()

    # -- checks: change nothing

    def find_duplicate(self, header: BatchHeader) -> ProducedBatch | None:
        """The batch that this one repeats, when it is among the last five."""
        producer = self.producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            return None
        last_sequence, delta = header.last_sequence, header.last_offset_delta
        for batch in producer.batches:
            if batch.last_sequence == last_sequence and batch.offset_delta == delta:
                return batch
        return None

    def is_ongoing(self, producer_id: int, epoch: int) -> bool:
        """Whether the producer has an open transaction here, in that epoch."""
        producer = self.producers.get(producer_id)
        return producer is not None and producer.transaction_first_offset is not None and producer.epoch == epoch

    def is_sequenced(self, producer_id: int) -> bool:
        """Whether batches of the producer's epoch are known, so that the next sequence is."""
        producer = self.producers.get(producer_id)
        return producer is not None and bool(producer.batches)

    def check_epoch(self, producer_id: int, epoch: int) -> None:
        """Raise ApiError INVALID_PRODUCER_EPOCH for a batch of a producer that was replaced by a younger one."""
        producer = self.producers.get(producer_id)
        if producer is not None and epoch < producer.epoch:
            raise ApiError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"producer {producer_id} has epoch {producer.epoch} here, the batch has {epoch}",
            )

    def check(self, header: BatchHeader, origin: Origin) -> None:
        """Raise ApiError when the batch must not be appended."""
        producer = self.producers.get(header.producer_id)
        if producer is None or producer.epoch == NO_EPOCH:
            return
        epoch = header.producer_epoch
        if epoch < producer.epoch:
            self.check_epoch(header.producer_id, epoch)
        if origin is not Origin.CLIENT:
            return
        is_open = producer.transaction_first_offset is not None
        if is_open and not (header.is_transactional and epoch == producer.epoch):
            # An open one of an older epoch is for a marker to end: records of another must not join it.
            raise ApiError(
                ErrorCode.INVALID_TXN_STATE,
                f"producer {header.producer_id} has an open transaction, the batch is not part of it",
            )
        expected = 0 if epoch > producer.epoch else next_sequence(producer.last_sequence)
        if header.base_sequence != expected:
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {header.producer_id}: sequence {header.base_sequence} came where {expected} was expected",
            )

    def check_marker(self, header: BatchHeader, marker: EndTransactionMarker, transaction_version: int) -> None:
        """Raise ApiError when a transaction marker comes from an old coordinator or for an old epoch.

        A marker of transaction version 2 bears the epoch after that of the transaction which it ends, so one with the
        epoch of an open transaction is a late repetition of the one before (KIP-1228). Without an open transaction it
        repeats a marker that is here already, whose answer was lost: it does no harm.
        """
        producer = self.producers.get(header.producer_id)
        if producer is None:
            return
        epoch, is_open = header.producer_epoch, producer.transaction_first_offset is not None
        if epoch < producer.epoch or (transaction_version >= 2 and epoch == producer.epoch and is_open):
            raise ApiError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"a marker of epoch {epoch} ends no transaction of producer {header.producer_id}, which has epoch "
                f"{producer.epoch} here",
            )
        if marker.coordinator_epoch < producer.coordinator_epoch:
            raise ApiError(ErrorCode.TRANSACTION_COORDINATOR_FENCED, "marker of an old transaction coordinator")

    # -- changes

    def record(self, header: BatchHeader, base_offset: int, timestamp: int) -> None:
        """A batch of a producer is in the log at `base_offset`."""
        producer = self._producer(header)
        last_offset = base_offset + header.last_offset_delta
        producer.batches.append(ProducedBatch(header.last_sequence, last_offset, header.last_offset_delta, timestamp))
        producer.last_timestamp = timestamp
        if header.is_transactional and producer.transaction_first_offset is None:
            producer.transaction_first_offset = base_offset
            self._open[base_offset] = producer.producer_id

    def record_marker(
        self, header: BatchHeader, offset: int, timestamp: int, marker: EndTransactionMarker
    ) -> AbortedTransaction | None:
        """A transaction's marker is in the log. Returns the entry for the transaction index when it aborted."""
        producer = self._producer(header)
        producer.coordinator_epoch = marker.coordinator_epoch
        producer.last_timestamp = timestamp
        first = producer.transaction_first_offset
        if first is None:
            return None  # a transaction without records here
        producer.transaction_first_offset = None
        del self._open[first]
        self._ended.append((first, offset))
        if marker.committed:
            return None
        stable = next(iter(self._open), offset + 1)
        return AbortedTransaction(producer.producer_id, first, offset, stable)

    def replicated(self, high_watermark: int) -> None:
        """Markers below the high watermark do not hold the last stable offset any more."""
        if self._ended:
            self._ended = deque(ended for ended in self._ended if ended[1] >= high_watermark)

    def first_unstable_offset(self, high_watermark: int) -> int | None:
        """First offset of the oldest transaction that readers of committed data must wait for."""
        oldest = next(iter(self._open), None)
        for first, marker in self._ended:
            if marker >= high_watermark and (oldest is None or first < oldest):
                oldest = first
        return oldest

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers that were silent for `producer.id.expiration.ms`. Returns how many."""
        silent = [
            producer_id
            for producer_id, producer in self.producers.items()
            if producer.transaction_first_offset is None and now_ms - producer.last_timestamp >= expiration_ms
        ]
        for producer_id in silent:
            del self.producers[producer_id]
        return len(silent)

    def restore(self, producers: list[Producer], end_offset: int) -> None:
        """Begin from a snapshot."""
        self.producers = {producer.producer_id: producer for producer in producers}
        self.end_offset = end_offset
        self._open = dict(
            sorted(
                (producer.transaction_first_offset, producer.producer_id)
                for producer in producers
                if producer.transaction_first_offset is not None
            )
        )
        self._ended.clear()

    def _producer(self, header: BatchHeader) -> Producer:
        producer = self.producers.get(header.producer_id)
        if producer is None:
            producer = self.producers[header.producer_id] = Producer(header.producer_id)
        if producer.epoch != header.producer_epoch:
            producer.epoch = header.producer_epoch
            producer.batches.clear()
        return producer


def next_sequence(sequence: int) -> int:
    """Sequence numbers wrap to 0 after 2^31−1."""
    return 0 if sequence == _MAX_SEQUENCE else sequence + 1
