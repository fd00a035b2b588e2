"""The runtime on which every coordinator stands: groups now, transactions and share groups on the same ground.

A *shard* is the state behind one partition of an internal topic. It is pure: an operation looks at the state and
yields effects (records to append, replies to give, timers to set). The runtime replays the records into the shard,
appends all records of one turn of the loop as one batch, and lets a reply leave when everything its shard had
written by then is committed. State changes only by replay, so recovery and normal running are one path.

Records may belong to the transaction of a producer (KIP-98). They have a batch of their own, which is appended before
it is replayed, as is the marker that ends the transaction: a refusal leaves nothing to take back.

The design follows Kafka's coordinator-common (KIP-848, KIP-915), with one difference: see `shard.Shard.turn_failed`.
"""

from ottla.coordinators.runtime.log import CoordinatorLog
from ottla.coordinators.runtime.runtime import CoordinatorRuntime
from ottla.coordinators.runtime.shard import (
    Call,
    CoordinatorRecord,
    Effects,
    ProducerIdentity,
    RecordCodec,
    Shard,
    TimerKey,
    TransactionalShard,
)
from ottla.coordinators.runtime.transactions import EndOfTransaction, Transaction

__all__ = [
    "Call",
    "CoordinatorLog",
    "CoordinatorRecord",
    "CoordinatorRuntime",
    "Effects",
    "EndOfTransaction",
    "ProducerIdentity",
    "RecordCodec",
    "Shard",
    "TimerKey",
    "Transaction",
    "TransactionalShard",
]
