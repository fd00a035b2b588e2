"""Holds the shards of one internal topic that this node leads, and sends each operation to its shard."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from ottla.coordinators.runtime.host import HostState, ShardHost
from ottla.coordinators.runtime.log import CoordinatorLog
from ottla.coordinators.runtime.shard import Call, Effects, RecordCodec, Shard
from ottla.coordinators.runtime.transactions import EndOfTransaction, Transaction
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock

S = TypeVar("S", bound=Shard)


class CoordinatorRuntime(Generic[S]):
    """The coordinators of one kind on one node.

    `commit_timeout_ms`: how long a reply may wait for its records to be committed (`offsets.commit.timeout.ms`).
    `batch_bytes`: a turn's records are split into batches of about this size; below the topic's `max.message.bytes`.
    `report`: takes an event name and fields, for the log.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        codec: RecordCodec,
        new_shard: Callable[[int], S],
        report: Callable[..., object],
        commit_timeout_ms: float = 5000,
        batch_bytes: int = 512 << 10,
    ) -> None:
        self._clock, self._codec, self._new_shard, self._report = clock, codec, new_shard, report
        self._commit_timeout_ms, self._batch_bytes = commit_timeout_ms, batch_bytes
        self._hosts: dict[int, ShardHost[S]] = {}
        self._logs: dict[int, CoordinatorLog] = {}

    def lead(self, index: int, log: CoordinatorLog, leader_epoch: int) -> None:
        """Partition `index` is led here from now on: load the shard. Nothing happens when the epoch is known, unless
        the shard failed: a leader that was sent aside for a time, as its disk stalled, leads again in the same epoch.

        Epochs are those of one log: of another one (the topic was created anew), any epoch is a new leadership.
        """
        host = self._hosts.get(index)
        if host is not None:
            is_known = log is self._logs[index] and host.leader_epoch >= leader_epoch
            if is_known and host.state is not HostState.FAILED:
                return
            host.close(ApiError(ErrorCode.NOT_COORDINATOR))
        self._logs[index] = log
        self._host(index, leader_epoch)

    def resign(self, index: int) -> None:
        """Partition `index` is no longer led here."""
        host = self._hosts.pop(index, None)
        if host is not None:
            del self._logs[index]
            host.close(ApiError(ErrorCode.NOT_COORDINATOR))

    def close(self) -> None:
        """The node stops."""
        for index in list(self._hosts):
            self.resign(index)

    def execute(self, index: int, call: Call | None, operation: Callable[[S, Effects], None]) -> None:
        """Run `operation` on the shard of partition `index`.

        `call` gets the error when the shard is not here (NOT_COORDINATOR), not yet here (COORDINATOR_LOAD_IN_PROGRESS),
        or broken; otherwise the operation answers it through its effects, at once or in a later operation.
        """
        host = self._hosts.get(index)
        if host is not None:
            host.execute(call, operation)
        elif call is not None:
            call(ApiError(ErrorCode.NOT_COORDINATOR))

    def execute_in_transaction(
        self, index: int, call: Call, transaction: Transaction, operation: Callable[[S, Effects], None]
    ) -> None:
        """Run an operation that writes records of a transaction, after its coordinator was asked if need be.

        `call` gets errors as in `execute`, and what the transaction's coordinator said when it did not agree.
        """
        host = self._hosts.get(index)
        if host is not None:
            host.execute_in_transaction(call, transaction, operation)
        else:
            call(ApiError(ErrorCode.NOT_COORDINATOR))

    def complete_transaction(self, index: int, end: EndOfTransaction, call: Call) -> None:
        """Write the marker that ends the producer's transaction on partition `index`.

        `call` gets None once the marker is committed, or the error: INVALID_PRODUCER_EPOCH and
        TRANSACTION_COORDINATOR_FENCED when it comes from the past, otherwise as in `execute`.
        """
        host = self._hosts.get(index)
        if host is not None:
            host.complete_transaction(end, call)
        else:
            call(ApiError(ErrorCode.NOT_COORDINATOR))

    @property
    def indices(self) -> list[int]:
        """The partitions led here, loaded or not."""
        return list(self._hosts)

    def state(self, index: int) -> HostState | None:
        """Of the shard of partition `index`; None when another node leads it."""
        host = self._hosts.get(index)
        return host.state if host is not None else None

    def active_shards(self) -> Iterator[S]:
        """For metrics; what they show need not be committed."""
        return (host.shard for host in self._hosts.values() if host.state is HostState.ACTIVE)

    def _host(self, index: int, leader_epoch: int) -> None:
        self._hosts[index] = ShardHost(
            index=index,
            shard=self._new_shard(index),
            log=self._logs[index],
            codec=self._codec,
            clock=self._clock,
            leader_epoch=leader_epoch,
            commit_timeout_ms=self._commit_timeout_ms,
            batch_bytes=self._batch_bytes,
            report=self._report,
            reload=self._reload,
        )

    def _reload(self, host: ShardHost[Any]) -> None:
        if self._hosts.get(host.index) is host:
            self._host(host.index, host.leader_epoch)
