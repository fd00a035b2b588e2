"""What a partition remembers of each producer: its epoch, its last five batches, its open transaction.

Kafka's rules for idempotent producers (KIP-98, KIP-360, KIP-890): a batch that repeats one of the last five is a
duplicate, a gap in the sequence is refused, an older epoch is fenced. Transactions bound the last stable offset: it
stays at the first offset of the oldest transaction that is open, or whose marker is not below the high watermark yet.
State changes only by `record` and `record_marker`, on append and on recovery alike.

Producers that were at work lately are objects. Of the others, which may be millions, `idle_producers` keeps the states
packed: whenever a producer comes in, two that were not at work for longer go out, so no moment has much to do.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.partitions.idle_producers import BUCKET_ROWS, EARLIER, ROW, PackedTable, Row, open_transactions
from ottla.partitions.results import Origin
from ottla.records.control import EndTransactionMarker
from ottla.records.header import MAX_SEQUENCE, BatchHeader

BATCHES_REMEMBERED: Final = 5
NO_EPOCH: Final = -1
NO_SEQUENCE: Final = -1
RECENT_PRODUCERS: Final = 500
"""So many at most are in each of the two generations of objects."""
_PACKED_AT_ONCE: Final = 2


@dataclass(slots=True)
class ProducedBatch:
    """Where an earlier batch of a producer went."""

    last_sequence: int
    last_offset: int
    offset_delta: int

    @property
    def base_offset(self) -> int:
        return self.last_offset - self.offset_delta

    @property
    def base_sequence(self) -> int:
        return (self.last_sequence - self.offset_delta) & MAX_SEQUENCE


@dataclass(slots=True)
class Producer:
    """State of one producer id. `last_timestamp` is the broker's time of its last batch or marker."""

    producer_id: int
    epoch: int = NO_EPOCH
    coordinator_epoch: int = -1
    last_timestamp: int = -1
    transaction_first_offset: int | None = None
    batches: list[ProducedBatch] = field(default_factory=list)  # of this epoch, without a gap between them

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    def row(self) -> bytes:
        """All but the batches before the last one."""
        last = self.batches[-1] if self.batches else _NO_BATCH
        first = self.transaction_first_offset
        return ROW.pack(
            self.producer_id,
            self.epoch,
            last.last_sequence,
            last.last_offset,
            last.offset_delta,
            self.last_timestamp,
            self.coordinator_epoch,
            -1 if first is None else first,
        )

    def earlier_row(self) -> bytes | None:
        """The batches before the last one, if there are any."""
        batches = self.batches
        if len(batches) < 2 or batches[-1].last_sequence < 0:
            return None  # a coordinator's batches have no sequences, and are never looked for
        flat = [number for batch in batches[-2::-1] for number in (batch.last_offset, batch.offset_delta)]
        return EARLIER.pack(self.producer_id, *flat, *(-1,) * (2 * BATCHES_REMEMBERED - 2 - len(flat)))


def _is_silent(row: bytes, limit_ms: int) -> bool:
    fields: Row = ROW.unpack(row)
    return fields[7] < 0 and fields[5] <= limit_ms


_NO_BATCH = ProducedBatch(NO_SEQUENCE, -1, 0)


def unpack(row: bytes, earlier: bytes | None) -> Producer:
    """The producer that `row` and `earlier_row` speak of."""
    producer_id, epoch, sequence, offset, delta, timestamp, coordinator_epoch, first = ROW.unpack(row)
    producer = Producer(producer_id, epoch, coordinator_epoch, timestamp, None if first < 0 else first)
    if offset >= 0:
        batches = [ProducedBatch(sequence, offset, delta)]
        if earlier is not None:
            numbers = EARLIER.unpack(earlier)[1:]
            for last_offset, offset_delta in zip(numbers[::2], numbers[1::2], strict=True):
                if last_offset >= 0:
                    before = (batches[0].base_sequence - 1) & MAX_SEQUENCE
                    batches.insert(0, ProducedBatch(before, last_offset, offset_delta))
        producer.batches = batches
    return producer


@dataclass(frozen=True, slots=True)
class ProducerSnapshot:
    """The states of all producers at one offset: rows as in `idle_producers`, and what `_ended` says."""

    rows: list[bytes]
    earlier: list[bytes]
    ended: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class AbortedTransaction:
    """An entry of the transaction index: records of the producer in [first, last] are to be skipped."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class ProducerStates:
    """All producers of one partition."""

    __slots__ = ("_ended", "_older", "_open", "_recent", "earlier", "end_offset", "idle")

    def __init__(self) -> None:
        self._recent: dict[int, Producer] = {}
        self._older: dict[int, Producer] = {}  # not at work since `_recent` began anew
        self.idle = PackedTable(ROW.size)
        self.earlier = PackedTable(EARLIER.size)
        self.end_offset = 0  # state as of this offset
        self._open: dict[int, int] = {}  # first offset → producer id; ascending, as offsets are
        self._ended: deque[tuple[int, int]] = (
            deque()
        )  # (first offset, offset of the marker), not replicated yet; ascending by the marker

    def __len__(self) -> int:
        return len(self._recent) + len(self._older) + self.idle.count

    def __iter__(self) -> Iterator[Producer]:
        """Every producer; what is changed of those that are idle is changed for nobody."""
        yield from self._recent.values()
        yield from self._older.values()
        for bucket in self.idle.buckets():
            earlier = {row[:8]: row for row in self.earlier.rows(bucket)}
            for row in self.idle.rows(bucket):
                yield unpack(row, earlier.get(row[:8]))

    def get(self, producer_id: int) -> Producer | None:
        """What is known of a producer; it counts as one at work from now on."""
        producer = self._recent.get(producer_id)
        if producer is not None:
            return producer
        producer = self._older.pop(producer_id, None)
        if producer is None:
            row = self.idle.take(producer_id) if self.idle else None
            if row is None:
                return None
            producer = unpack(row, self.earlier.take(producer_id))
        self._add(producer)
        return producer

    def _add(self, producer: Producer) -> None:
        self._recent[producer.producer_id] = producer
        for _ in range(min(_PACKED_AT_ONCE, len(self._older))):
            _, quiet = self._older.popitem()
            self._pack(quiet)
        if len(self._recent) >= RECENT_PRODUCERS and not self._older:
            self._recent, self._older = {}, self._recent

    def _pack(self, producer: Producer) -> None:
        self.idle.put(producer.producer_id, producer.row())
        earlier = producer.earlier_row()
        if earlier is not None:
            self.earlier.put(producer.producer_id, earlier)

    # -- checks: change nothing

    def find_duplicate(self, header: BatchHeader) -> ProducedBatch | None:
        """The batch that this one repeats, when it is among the last five."""
        producer_id = header.producer_id
        producer = self._recent.get(producer_id) or self.get(producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            return None
        last_sequence, delta = header.last_sequence, header.last_offset_delta
        for batch in producer.batches:
            if batch.last_sequence == last_sequence and batch.offset_delta == delta:
                return batch
        return None

    def is_ongoing(self, producer_id: int, epoch: int) -> bool:
        """Whether the producer has an open transaction here, in that epoch."""
        producer = self.get(producer_id)
        return producer is not None and producer.transaction_first_offset is not None and producer.epoch == epoch

    def is_known(self, producer_id: int) -> bool:
        """Whether there is a sequence to compare the producer's next batch with."""
        producer = self.get(producer_id)
        return producer is not None and producer.epoch != NO_EPOCH

    def is_due(self, producer_id: int, epoch: int, sequence: int) -> bool:
        """Whether the producer is known here in that epoch, and a batch with that sequence comes next."""
        producer = self.get(producer_id)
        return producer is not None and producer.epoch == epoch and sequence == next_sequence(producer.last_sequence)

    def open_transactions(self) -> list[Producer]:
        """Producers whose transaction no marker has ended yet, the oldest one first."""
        return [found for one in list(self._open.values()) if (found := self.get(one)) is not None]

    def check_epoch(self, producer_id: int, epoch: int) -> None:
        """Raise ApiError INVALID_PRODUCER_EPOCH for a batch of a producer that was replaced by a younger one."""
        producer = self.get(producer_id)
        if producer is not None and epoch < producer.epoch:
            raise ApiError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"producer {producer_id} has epoch {producer.epoch} here, the batch has {epoch}",
            )

    def check(self, header: BatchHeader, origin: Origin) -> None:
        """Raise ApiError when the batch must not be appended."""
        producer_id = header.producer_id
        producer = self._recent.get(producer_id) or self.get(producer_id)
        if producer is None or producer.epoch == NO_EPOCH:
            return
        epoch = header.producer_epoch
        if epoch < producer.epoch:
            self.check_epoch(producer_id, epoch)
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
        producer = self.get(header.producer_id)
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
        producer = self._recent.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            producer = self._producer(header)
        delta, batches = header.last_offset_delta, producer.batches
        if batches and header.base_sequence != (batches[-1].last_sequence + 1) & MAX_SEQUENCE:
            batches.clear()  # it was forgotten for a while where this came from
        batches.append(ProducedBatch(header.last_sequence, base_offset + delta, delta))
        if len(batches) > BATCHES_REMEMBERED:
            del batches[0]
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
        ended = self._ended
        while ended and ended[0][1] < high_watermark:
            ended.popleft()

    def first_unstable_offset(self, high_watermark: int) -> int | None:
        """First offset of the oldest transaction that readers of committed data must wait for."""
        oldest = next(iter(self._open), None)
        for first, marker in self._ended:
            if marker >= high_watermark and (oldest is None or first < oldest):
                oldest = first
        return oldest

    def expire(self, silent_since: Callable[[], int]) -> Iterator[int]:
        """Forget producers that were silent for `producer.id.expiration.ms`; yields after about a millisecond of work.

        `silent_since`: whose last batch came by then has been, in ms; it moves on while this goes on, for minutes when
        there are millions. Those with an open transaction stay, and so does whoever comes back meanwhile.
        """
        limit = silent_since()
        for generation in (self._recent, self._older):
            for producer in list(generation.values()):
                if producer.transaction_first_offset is None and producer.last_timestamp <= limit:
                    generation.pop(producer.producer_id, None)
        yield len(self._recent) + len(self._older)
        for bucket in self.idle.buckets():
            limit = silent_since()
            silent = {row[:8] for row in self.idle.rows(bucket) if _is_silent(row, limit)}
            if silent:
                self.idle.discard(bucket, silent)
                self.earlier.discard(bucket, silent)
            yield BUCKET_ROWS

    def snapshot(self) -> ProducerSnapshot:
        """All of it, as it is now; made into a file elsewhere."""
        objects = [*self._recent.values(), *self._older.values()]
        rows = b"".join([producer.row() for producer in objects])
        earlier = b"".join([row for producer in objects if (row := producer.earlier_row()) is not None])
        return ProducerSnapshot([rows, *self.idle.chunks()], [earlier, *self.earlier.chunks()], tuple(self._ended))

    def restore(self, snapshot: ProducerSnapshot, end_offset: int) -> None:
        """Begin from a snapshot; for states of which nothing else is known yet."""
        self.end_offset = end_offset
        for chunk in snapshot.rows:
            self.idle.load(chunk)
        for chunk in snapshot.earlier:
            self.earlier.load(chunk)
        self._open = open_transactions(snapshot.rows)
        self._ended = deque(snapshot.ended)

    @property
    def size_bytes(self) -> int:
        """Of a snapshot, about."""
        return ROW.size * len(self) + self.earlier.size_bytes

    def _producer(self, header: BatchHeader) -> Producer:
        producer = self.get(header.producer_id)
        if producer is None:
            producer = Producer(header.producer_id)
            self._add(producer)
        if producer.epoch != header.producer_epoch:
            producer.epoch = header.producer_epoch
            producer.batches.clear()
        return producer


def next_sequence(sequence: int) -> int:
    """Sequence numbers wrap to 0 after 2^31−1."""
    return (sequence + 1) & MAX_SEQUENCE
