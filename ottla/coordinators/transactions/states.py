"""The states of a transactional id.

EMPTY             initialised; has no transaction
ONGOING           a transaction with its partitions
PREPARE_COMMIT    the transaction is committed: that is in the log, and the markers are on their way
PREPARE_ABORT     the same for an abort
COMPLETE_COMMIT   every partition has its marker
COMPLETE_ABORT    the same for an abort
DEAD              forgotten: a tombstone

from / to         EMPTY  ONGOING  PREPARE_C  PREPARE_A  COMPLETE_C  COMPLETE_A  DEAD
(nothing)           ×
EMPTY               ×       ×                    ¹                                ×
ONGOING                     ×         ×          ×
PREPARE_COMMIT                                              ×
PREPARE_ABORT                                                           ×
COMPLETE_COMMIT     ×       ×                    ¹                                ×
COMPLETE_ABORT      ×       ×                    ¹                                ×

¹ EndTxn since version 5 may abort a transaction of which no partition got to the coordinator

Kafka's PrepareEpochFence, which it never writes, is not needed: fencing and abort are one record here.
"""

from enum import Enum
from typing import Final


class TransactionState(Enum):
    """The values are those of the records."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6

    @property
    def label(self) -> str:
        """The name that the protocol shows."""
        return self.name.title().replace("_", "")

    @property
    def is_prepared(self) -> bool:
        """The end is decided, and not yet known everywhere."""
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)

    @property
    def is_complete(self) -> bool:
        return self in (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)

    @property
    def is_commit(self) -> bool:
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)


_S = TransactionState
_IDLE: Final = {_S.EMPTY, _S.ONGOING, _S.PREPARE_ABORT, _S.DEAD}

TRANSITIONS: dict[TransactionState | None, set[TransactionState]] = {
    None: {_S.EMPTY},
    _S.EMPTY: _IDLE,
    _S.ONGOING: {_S.ONGOING, _S.PREPARE_COMMIT, _S.PREPARE_ABORT},
    _S.PREPARE_COMMIT: {_S.COMPLETE_COMMIT},
    _S.PREPARE_ABORT: {_S.COMPLETE_ABORT},
    _S.COMPLETE_COMMIT: _IDLE,
    _S.COMPLETE_ABORT: _IDLE,
    _S.DEAD: set(),
}
