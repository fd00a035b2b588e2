"""From an end that is in the log to the markers, and back when all of them are written.

The shard lets a reply of the runtime start this: when it leaves, the record of the end is committed. Nothing here is
kept across leaderships; whoever leads next finds the end prepared in the log, and sends all markers again.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from ottla.coordinators.transactions.ports import EndedTransaction, MarkerSender, TopicPartition
from ottla.coordinators.transactions.transaction import Producer
from ottla.core.errors import ApiError
from ottla.core.ports import Clock

COMMIT_RETRY_MS: Final = 100.0
REFUSED_RETRY_MS: Final = 60_000.0


class MarkerEvents(Protocol):
    """What the shard hears, each time in an operation of its own."""

    def markers_written(self, transactional_id: str, producer: Producer) -> None:
        """All of them: of the transaction whose markers had this producer id and epoch."""

    def resume_end(self, transactional_id: str) -> None:
        """It has not come through."""


class MarkerDriver:
    """The ends of one shard that are on their way."""

    def __init__(
        self, *, sender: MarkerSender, clock: Clock, report: Callable[..., object], events: MarkerEvents
    ) -> None:
        self._sender, self._clock, self._report, self._events = sender, clock, report, events
        self._missing: dict[str, set[TopicPartition]] = {}
        self._closed = False

    def end_written(self, transaction: EndedTransaction, outcome: Any) -> None:
        """The record of this end is committed, or (`outcome` is an ApiError) it is not known to be."""
        if self._closed:
            return
        if isinstance(outcome, ApiError):
            # It may be committed yet, or be taken back; the shard looks.
            self._clock.call_later(COMMIT_RETRY_MS, self._resume, transaction.transactional_id)
        elif not transaction.partitions:
            self._clock.call_soon(self._finish, transaction)
        else:
            self._send(transaction)

    def _send(self, transaction: EndedTransaction) -> None:
        missing = self._missing[transaction.transactional_id] = set(transaction.partitions)

        # A turn of the loop later, so that a sender may call these at once.
        def written(partitions: list[TopicPartition]) -> None:
            self._clock.call_soon(self._written, transaction, missing, partitions)

        def failed(error: ApiError) -> None:
            self._clock.call_soon(self._refused, transaction, missing, error)

        self._sender.send(transaction, written, failed)

    def close(self, _: object = None) -> None:
        """The leadership is over."""
        self._closed = True
        for transactional_id in self._missing:
            self._sender.cancel(transactional_id)
        self._missing.clear()

    def _written(
        self, transaction: EndedTransaction, missing: set[TopicPartition], partitions: list[TopicPartition]
    ) -> None:
        if self._missing.get(transaction.transactional_id) is not missing:
            return
        missing.difference_update(partitions)
        if not missing:
            del self._missing[transaction.transactional_id]
            self._finish(transaction)

    def _refused(self, transaction: EndedTransaction, missing: set[TopicPartition], error: ApiError) -> None:
        if self._missing.get(transaction.transactional_id) is not missing:
            return
        del self._missing[transaction.transactional_id]
        self._report("transaction_markers_refused", transactional_id=transaction.transactional_id, error=str(error))
        # Another node should coordinate this id by now. Should it not, the transaction must not hang for ever.
        self._clock.call_later(REFUSED_RETRY_MS, self._resume, transaction.transactional_id)

    def _finish(self, transaction: EndedTransaction) -> None:
        if not self._closed:
            self._events.markers_written(
                transaction.transactional_id, Producer(transaction.producer_id, transaction.producer_epoch)
            )

    def _resume(self, transactional_id: str) -> None:
        if not self._closed and transactional_id not in self._missing:
            self._events.resume_end(transactional_id)
