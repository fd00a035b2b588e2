"""What the runtime is told about transactions whose records go through a shard."""

from collections.abc import Callable
from dataclasses import dataclass

from ottla.coordinators.runtime.shard import ProducerIdentity
from ottla.core.error_codes import ErrorCode


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that records are to be part of.

    `adds`: its coordinator makes the partition a part of it when it is asked (transaction version 2); else the producer
    has seen to that. `ask` puts the question, whose answer is NONE when the transaction is under way.
    """

    producer: ProducerIdentity
    adds: bool
    ask: Callable[[Callable[[ErrorCode], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfTransaction:
    """What a marker says. With `transaction_version` 2 the producer's epoch is the one after the transaction's."""

    producer: ProducerIdentity
    coordinator_epoch: int
    committed: bool
    transaction_version: int
