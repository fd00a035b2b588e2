"""The port through which a partition's leader asks whether a transaction is under way there (KIP-890).

A transactional batch may only be appended while its coordinator counts the partition among the transaction's: else
nobody would end the transaction there, and the last stable offset would stand still for ever. The partition keeps what
it was told (`ottla.partitions`); who asks, and where, is behind this port.
"""

from collections.abc import Callable
from typing import Protocol

from ottla.core.error_codes import ErrorCode

VerificationDone = Callable[[ErrorCode], None]


class Verifier(Protocol):
    """Asks the coordinator of a transactional id, wherever it is. Questions of one turn of the loop travel together."""

    def ask(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        topic: str,
        index: int,
        verify_only: bool,
        done: VerificationDone,
    ) -> None:
        """Call `done` once, in a later turn of the loop.

        `verify_only`: the producer has added the partition itself (clients with Produce below 12); else the coordinator
        adds it now (transaction version 2). NONE: the transaction is under way there. Other codes are what a Produce
        response may tell the client: CONCURRENT_TRANSACTIONS and NOT_ENOUGH_REPLICAS among others to be repeated,
        INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING and INVALID_PRODUCER_EPOCH (older clients know no PRODUCER_FENCED
        here) not.
        """
