"""What can go wrong for a user of the client.

    OttlaError
    └── ClientError            carries code, retriable, topic, partition
        ├── BufferExhausted    no room in `buffer_memory` within `max_block_ms`; the record was not accepted
        ├── DeliveryTimeout    not acknowledged within `delivery_timeout_ms`; the record may have been written
        ├── RecordTooLarge     larger than `max_request_size`; the record was not accepted
        ├── SerializationFailed  a serializer or deserializer raised; its error is the cause
        ├── NoOffset           no position, and `auto_offset_reset` is "none"
        ├── ClientClosed       the client was closed before or meanwhile
        ├── ClientForked       the process is a fork of one that used a client
        ├── CommitFailed       the group gave the partitions to others: their records come again, elsewhere
        ├── TransactionError   of a producer with a transactional_id; `remedy` says what to do
        │   ├── TransactionUnfinished  whether the transaction has ended is not known: RETRY the commit or the abort
        │   ├── TransactionAborted     it cannot commit: ABORT it, and do its work again in another one
        │   ├── ProducerFenced         a newer producer has the transactional_id: CLOSE
        │   └── TransactionsFailed     this producer can do no more transactions: CLOSE, and begin with a new one
        └── PartialFailure     an admin call failed for some of its items: `errors` by item, `results` for the rest

`retriable` tells whether the same request may succeed later. The client has retried already, for as long as its
time-outs allow, when it raises such an error.
"""

from collections.abc import Mapping
from copy import copy
from enum import Enum
from typing import Any, Final, Self

from ottla.core.errors import ErrorCode, OttlaError

__all__ = [
    "BufferExhausted",
    "ClientClosed",
    "ClientError",
    "ClientForked",
    "CommitFailed",
    "DeliveryTimeout",
    "ErrorCode",
    "NoOffset",
    "PartialFailure",
    "ProducerFenced",
    "RecordTooLarge",
    "Remedy",
    "SerializationFailed",
    "TransactionAborted",
    "TransactionError",
    "TransactionUnfinished",
    "TransactionsFailed",
]


class ClientError(OttlaError):
    """An error of the cluster or of the client itself, under Kafka's error codes."""

    def __init__(
        self,
        code: ErrorCode,
        message: str = "",
        *,
        topic: str | None = None,
        partition: int | None = None,
        retriable: bool | None = None,
    ) -> None:
        super().__init__(code, message, topic, partition)
        self.code = code
        self.message = message
        self.topic = topic
        self.partition = partition
        self.retriable = code.retriable if retriable is None else retriable

    def __str__(self) -> str:
        where = "" if self.topic is None else self.topic if self.partition is None else f"{self.topic}-{self.partition}"
        text = self.code.name if self.message in ("", self.code.name) else f"{self.code.name}: {self.message}"
        return f"{where}: {text}" if where else text

    def __reduce__(self) -> tuple[Any, ...]:
        # The kinds differ in what their constructors take; copies and pickles go past these.
        return _remake, (type(self), self.args, self.__dict__)

    def at(self, topic: str, partition: int | None = None) -> Self:
        """The same error, telling the topic and partition that it is about."""
        located = copy(self)
        located.topic, located.partition = topic, partition
        return located


def _remake(kind: type[ClientError], args: tuple[object, ...], state: dict[str, object]) -> ClientError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class BufferExhausted(ClientError):
    """There was no room in `buffer_memory` within `max_block_ms`."""


class DeliveryTimeout(ClientError):
    """Not acknowledged within `delivery_timeout_ms`. When the record had been sent, it may have been written."""


class RecordTooLarge(ClientError):
    """The record alone is larger than `max_request_size`."""


class SerializationFailed(ClientError):
    """A serializer or deserializer raised."""


class NoOffset(ClientError):
    """A partition has no valid position, and `auto_offset_reset="none"` forbids to choose one."""


NOT_STARTED: Final = "not started: use `async with`, or await its start()"


class ClientClosed(ClientError):
    """The client is closed, or was closed while the call waited."""

    def __init__(self, message: str = "the client is closed") -> None:
        super().__init__(ErrorCode.NETWORK_EXCEPTION, message, retriable=False)


class ClientForked(ClientError):
    """A fork uses a client of its parent: connections and threads did not come along."""

    def __init__(self, made_in: int, used_in: int) -> None:
        super().__init__(
            ErrorCode.NETWORK_EXCEPTION,
            f"gRPC was started in process {made_in} and cannot be used in its fork {used_in}: make the first client "
            'after the fork, or start processes by "spawn" or "forkserver" (multiprocessing.set_start_method)',
            retriable=False,
        )


class CommitFailed(ClientError):
    """Offsets cannot be committed any more: the group has given the partitions to others, who read the records again.

    The consumer joins again by itself. Poll more often, or raise `max_poll_interval_ms`.
    """

    def __init__(self, cause: ClientError) -> None:
        super().__init__(
            cause.code,
            cause.message or "this member was dropped by its group; it joins again with the next poll",
            topic=cause.topic,
            partition=cause.partition,
            retriable=False,
        )


class Remedy(Enum):
    """What a failed operation of a transaction leaves to do (as KIP-1050 groups the errors)."""

    RETRY = "retry"  # call the same again
    ABORT = "abort"  # abort the transaction, then do its work again in another one
    CLOSE = "close"  # close the producer


class TransactionError(ClientError):
    """An operation of a transaction failed."""

    remedy = Remedy.CLOSE

    def __init__(self, cause: ClientError, message: str = "") -> None:
        super().__init__(
            cause.code,
            "; ".join(part for part in (message, cause.message or cause.code.name) if part),
            topic=cause.topic,
            partition=cause.partition,
            retriable=self.remedy is Remedy.RETRY,
        )


class TransactionUnfinished(TransactionError):
    """The coordinator has not confirmed the end in time, and may carry it out yet."""

    remedy = Remedy.RETRY


class TransactionAborted(TransactionError):
    """Nothing of the transaction will ever be visible. `async with producer.transaction()` has aborted it by now."""

    remedy = Remedy.ABORT


class ProducerFenced(TransactionError):
    """Another producer was started with the same transactional_id, and its transactions are the ones that count.

    Who aborts a producer's transaction as an administrator fences it likewise.
    """

    def __init__(self, cause: ClientError, transactional_id: str = "") -> None:
        super().__init__(cause)
        self.message = (
            f"a newer producer has the transactional_id {transactional_id}, or an administrator aborted its transaction"
        )


class TransactionsFailed(TransactionError):
    """The cluster refuses this producer's transactions for a reason that will stay."""


class PartialFailure(ClientError):
    """An admin call failed for some of its items; code and retriable are those of the first that failed."""

    def __init__(self, errors: Mapping[Any, ClientError], results: Mapping[Any, Any]) -> None:
        first = next(iter(errors.values()))
        super().__init__(first.code, first.message, topic=first.topic, partition=first.partition)
        self.errors = dict(errors)
        self.results = dict(results)

    def __str__(self) -> str:
        return "; ".join(
            # An error tells its topic itself, and nothing else that has a name.
            f"{item}: {error}" if isinstance(item, str) and error.topic is None else str(error)
            for item, error in self.errors.items()
        )
