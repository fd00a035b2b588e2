"""A producer's transactions (KIP-98, and the flow of KIP-890): its states, and the calls to the coordinators.

state         operation                                     becomes
───────────   ───────────────────────────────────────────   ──────────
NEW           init                                          READY
READY         begin                                         OPEN
OPEN          a batch or offsets fail                       BROKEN
OPEN          commit (BROKEN when the coordinator refuses)  COMMITTING, then READY
OPEN, BROKEN  abort                                         ABORTING, then READY
COMMITTING    commit, once more                             COMMITTING, then READY
ABORTING      abort, once more                              ABORTING, then READY
any           the cluster will not have the producer        FAILED

A partition, or a group's offsets, become part of a transaction by what is sent to them. The end of each transaction
gives the producer another epoch, so that nothing which is late can become part of the next; and it may be asked for
again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Protocol

from ottla.client.config import ProducerConfig
from ottla.client.coordination import (
    CoordinatorType,
    GroupMetadata,
    Offsets,
    TransactionalProducer,
    offsets_to_commit,
)
from ottla.client.coordinators import Coordinators, is_gone
from ottla.client.errors import (
    ClientError,
    CommitFailed,
    ErrorCode,
    ProducerFenced,
    TransactionAborted,
    TransactionError,
    TransactionsFailed,
    TransactionUnfinished,
)
from ottla.client.sender import Sender
from ottla.client.transport import Transport
from ottla.core.errors import ConfigError

GROUP, TRANSACTION = CoordinatorType.GROUP, CoordinatorType.TRANSACTION

FENCED = frozenset({ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH})
# The coordinator knows the producer, and this transaction cannot be committed.
_ABORTABLE = frozenset({ErrorCode.TRANSACTION_ABORTABLE, ErrorCode.INVALID_TXN_STATE})


class HasGroup(Protocol):
    """A consumer that is a member of a group."""

    @property
    def commits_by_itself(self) -> bool: ...

    def group_metadata(self) -> GroupMetadata: ...


class State(Enum):
    """See the table above."""

    NEW = "new"
    READY = "ready"
    OPEN = "open"
    BROKEN = "broken"
    COMMITTING = "committing"
    ABORTING = "aborting"
    FAILED = "failed"


class Transactions:
    """Of one producer, one after the other."""

    def __init__(
        self, config: ProducerConfig, transport: Transport, sender: Sender, flush: Callable[[], Awaitable[None]]
    ) -> None:
        assert config.transactional_id is not None
        self._transactional_id = config.transactional_id
        self._timeout_ms = config.transaction_timeout_ms
        self._transport, self._sender, self._flush = transport, sender, flush
        self._coordinators = Coordinators(transport, config)
        self._has_offsets = False  # some were sent, or may have been
        self._error: ClientError | None = None  # why it is BROKEN, or FAILED
        self._producer = TransactionalProducer(
            transactional_id=self._transactional_id, producer_id=-1, producer_epoch=-1
        )
        self.state = State.NEW
        sender.on_failed(self.delivery_failed)

    async def init(self) -> None:
        """Fence earlier producers of the id, and end what they left. Raises TransactionError."""
        name, timeout_ms = self._transactional_id, self._timeout_ms
        calls = self._transport.transactions
        try:
            producer = await self._coordinators.ask(
                TRANSACTION, name, lambda node_id: calls.init_producer_id(node_id, name, timeout_ms, None)
            )
        except ClientError as error:
            if error.retriable:
                raise
            raise self._fail(error) from error
        self._go_on_as(producer)

    def begin(self) -> None:
        """Raises TransactionError, or ClientError when one is open."""
        self.check_not_failed()
        if self.state is not State.READY:
            raise ClientError(
                ErrorCode.INVALID_TXN_STATE, f"the transaction before is {self.state.value}: commit or abort it first"
            )
        self.state = State.OPEN

    def check_send(self) -> None:
        """Whether a record may be sent now. Raises TransactionError, or ClientError when no transaction is open."""
        if self.state is not State.OPEN:
            self._check_open()

    async def send_offsets(self, offsets: Offsets, group: GroupMetadata | HasGroup) -> None:
        """Raises TransactionError; TransactionAborted also when the group has dropped the member that consumed.

        Raises ConfigError for a consumer that commits by itself, which it would do before the transaction, or without
        it; ValueError for a negative offset.
        """
        self._check_open()
        if isinstance(group, str):
            raise TypeError(
                f"give the consumer, or GroupMetadata(group_id={group!r}): a name alone fences no old member"
            )
        if not isinstance(group, GroupMetadata) and group.commits_by_itself:
            raise ConfigError("the transaction commits for the consumer: give that enable_auto_commit=False")
        try:
            group_id = _metadata_of(group).group_id
        except CommitFailed as error:
            raise self._break(error) from error
        left = offsets_to_commit(offsets)
        if not left:
            return
        calls, producer = self._transport.transactions, self._producer
        self._has_offsets = True
        began = asyncio.get_running_loop().time()

        async def attempt(node_id: int) -> None:
            outcomes = await calls.commit_offsets(node_id, producer, _metadata_of(group), left)
            for partition, error in outcomes.items():
                if error is None:
                    left.pop(partition, None)
            for error in outcomes.values():
                if error is not None:
                    # The member hears of its new epoch with a heartbeat.
                    stale = error.code is ErrorCode.STALE_MEMBER_EPOCH and not isinstance(group, GroupMetadata)
                    if stale:
                        raise ClientError(error.code, error.message, retriable=True)
                    error.retriable &= not is_gone(error, began)
                    raise error

        try:
            await self._coordinators.ask(GROUP, group_id, attempt)
        except ClientError as error:
            raise self._break(error) from error

    async def commit(self) -> None:
        """Deliver what was sent, then commit. See the table for what may be done after an error."""
        if self.state is not State.COMMITTING:
            self._check_open()
            await self._flush()
            self._check_open()
            self.state = State.COMMITTING
        await self._end(commit=True)

    async def abort(self) -> None:
        """Drop what was not sent, then abort."""
        self.check_not_failed()
        if self.state in (State.READY, State.COMMITTING):
            if self.state is State.COMMITTING:
                raise ClientError(
                    ErrorCode.INVALID_TXN_STATE,
                    "the commit is under way and may be done: call commit_transaction again",
                )
            self._check_open()
        self.state = State.ABORTING
        why = self._error or ClientError(ErrorCode.TRANSACTION_ABORTABLE, "the transaction is aborted")
        self._sender.abandon(TransactionAborted(why))
        await self._end(commit=False)

    async def close(self) -> None:
        """Abort what is open; what cannot be ended now, the next producer of the id or its timeout will end."""
        if self.state in (State.OPEN, State.BROKEN):
            with suppress(ClientError):
                await self.abort()

    async def _end(self, *, commit: bool) -> None:
        if not (self._sender.has_sent or self._has_offsets):
            self._finish()  # no node has heard of it
            return
        calls, producer = self._transport.transactions, self._producer
        try:
            following = await self._coordinators.ask(
                TRANSACTION,
                self._transactional_id,
                lambda node_id: calls.end_transaction(node_id, producer, commit=commit),
            )
        except ClientError as error:
            if error.retriable:
                what = "commit" if commit else "abort"
                raise TransactionUnfinished(error, f"the {what} is not confirmed: call it again") from error
            if commit and error.code in _ABORTABLE:
                raise self._break(error) from error
            raise self._fail(error) from error
        self._go_on_as(following)

    def _go_on_as(self, producer: TransactionalProducer) -> None:
        self._producer = producer
        self._sender.go_on_as(producer.producer_id, producer.producer_epoch)
        self._finish()

    def _finish(self) -> None:
        self._error, self._has_offsets = None, False
        self.state = State.READY

    # -- what goes wrong

    def delivery_failed(self, error: ClientError) -> None:
        """What is open cannot commit any more: a record of it will not be there."""
        if self.state is State.OPEN:
            self._break(error)

    def _break(self, error: ClientError) -> TransactionError:
        """It has to be aborted; when the producer itself was fenced, the abort will say so."""
        if error.code in (ErrorCode.PRODUCER_FENCED, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED):
            return self._fail(error)
        self.state, self._error = State.BROKEN, error
        return TransactionAborted(error, "abort the transaction, and do its work again")

    def _fail(self, error: ClientError) -> TransactionError:
        self.state, self._error = State.FAILED, error
        return self._failure(error)

    def _failure(self, error: ClientError) -> TransactionError:
        if error.code in FENCED:
            return ProducerFenced(error, self._transactional_id)
        return TransactionsFailed(error)

    def check_not_failed(self) -> None:
        """Raises TransactionError when the producer can do no more transactions."""
        if self.state is State.FAILED:
            assert self._error is not None
            raise self._failure(self._error)

    def _check_open(self) -> None:
        self.check_not_failed()
        if self.state is State.BROKEN:
            assert self._error is not None
            raise TransactionAborted(self._error, "abort the transaction, and do its work again")
        if self.state is not State.OPEN:
            raise ClientError(
                ErrorCode.INVALID_TXN_STATE,
                "no transaction is open: `async with producer.transaction()`, or begin_transaction, begins one",
            )


def _metadata_of(group: GroupMetadata | HasGroup) -> GroupMetadata:
    return group if isinstance(group, GroupMetadata) else group.group_metadata()
