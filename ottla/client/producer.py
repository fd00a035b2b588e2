"""The asyncio producer: takes records, gathers them into batches and delivers them; in transactions, when asked to."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, Unpack, overload

from ottla.client.accumulator import Accumulator
from ottla.client.batches import RECORD_OVERHEAD_BYTES, Delivery
from ottla.client.config import ProducerConfig, configured
from ottla.client.connect import open_transport
from ottla.client.coordination import GroupMetadata, Offsets
from ottla.client.errors import (
    NOT_STARTED,
    BufferExhausted,
    ClientClosed,
    ClientError,
    ErrorCode,
    RecordTooLarge,
    SerializationFailed,
)
from ottla.client.forks import check_not_forked, pid
from ottla.client.metadata import Metadata, TopicView
from ottla.client.partitioner import StickyPartitioner, partition_for_key
from ottla.client.sender import Sender
from ottla.client.settings import ProducerSettings
from ottla.client.transaction import Transaction
from ottla.client.transactions import HasGroup, State, Transactions
from ottla.client.transport import Transport
from ottla.client.types import Headers, K, RecordMetadata, TopicPartition, V
from ottla.records.batch import Record

Partitioner = Callable[[bytes | None, int], int]


class Unsent(NamedTuple):
    """A record that is not accepted yet."""

    topic: str
    partition: int | None
    record: Record
    size_bytes: int


class Producer(Generic[K, V]):
    """Sends records to topics; batched, retried, idempotent.

        async with Producer(bootstrap_servers="localhost:10092") as producer:
            delivery = await producer.send("greetings", b"hello", key=b"world")
            metadata = await delivery  # acknowledged: on stable storage of every in-sync replica

    `send()` waits only for the topic's metadata and for room in `buffer_memory`, at most `max_block_ms`.

    **Cancellation.** Cancelling `send()` while it waits means that the record was not accepted and never is sent; once
    accepted it is sent, and cancelling an await on its delivery takes nothing back. `close()` waits for everything
    accepted; cancelled, or after its time-out, it gives up what is not acknowledged yet (those deliveries raise
    `ClientClosed`; their records may have been written), closes the connections, and then raises `CancelledError`.

    **Transactions.** With a `transactional_id` records are sent in transactions, which readers with
    `isolation_level="read_committed"` see whole or not at all: see `transaction`.

    Without serializers keys and values are bytes. `partitioner(key_bytes, partition_count)` replaces the default:
    murmur2 of the key, as Java's client, or sticky without a key. A producer belongs to one loop and one process.
    """

    @overload
    def __init__(
        self: "Producer[bytes, bytes]",
        *,
        key_serializer: None = None,
        value_serializer: None = None,
        partitioner: Partitioner | None = None,
        transport: Transport | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Producer[bytes, V]",
        *,
        key_serializer: None = None,
        value_serializer: Callable[[V], bytes],
        partitioner: Partitioner | None = None,
        transport: Transport | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Producer[K, bytes]",
        *,
        key_serializer: Callable[[K], bytes],
        value_serializer: None = None,
        partitioner: Partitioner | None = None,
        transport: Transport | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Producer[K, V]",
        *,
        key_serializer: Callable[[K], bytes],
        value_serializer: Callable[[V], bytes],
        partitioner: Partitioner | None = None,
        transport: Transport | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None: ...
    def __init__(
        self,
        *,
        key_serializer: Callable[[Any], bytes] | None = None,
        value_serializer: Callable[[Any], bytes] | None = None,
        partitioner: Partitioner | None = None,
        transport: Transport | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None:
        """Connects to nothing yet; raises ConfigError for a wrong setting (see `config.ProducerConfig`)."""
        self._config = configured(ProducerConfig, settings)
        self._key_serializer = key_serializer
        self._value_serializer = value_serializer
        self._partitioner = partitioner
        self._sticky = StickyPartitioner(random.choice)
        self._given_transport = transport
        self._pid = pid()
        self._state = "new"
        self._room: deque[asyncio.Future[None]] = deque()  # who waits for memory, in order
        self._transactions: Transactions | None = None

    async def start(self) -> Self:
        """Connect; raises ClientError when no bootstrap server answers. `async with` does it."""
        if self._state != "new":
            raise ClientClosed("a producer starts once: make a new one")
        config = self._config
        self._transport = self._given_transport or open_transport(config)
        self._loop = asyncio.get_running_loop()
        self._metadata = Metadata(self._transport, config, allow_auto_create=True)
        self._accumulator = Accumulator(
            batch_size=config.batch_size, linger_ms=config.linger_ms, buffer_memory=config.buffer_memory
        )
        self._sender = Sender(config, self._transport, self._metadata, self._accumulator)
        self._sender.on_settled(self._make_room)
        if config.transactional_id is not None:
            self._transactions = Transactions(config, self._transport, self._sender, self._flush)
        try:
            await self._transport.open()
            if self._transactions is not None:
                await self._transactions.init()
        except BaseException:
            await self._transport.close()
            raise
        self._metadata.start()
        self._state = "open"
        return self

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | Mapping[str, bytes | None] = (),
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Accept a record; returns its delivery at once, or when there is room for it again.

        A value of None is null (a tombstone in a compacted topic). `timestamp_ms` is now when it is left out. Raises
        RecordTooLarge, BufferExhausted, SerializationFailed, ClientClosed, or the error of a topic that is refused;
        then the record was not accepted.
        """
        self.check_usable()
        unsent = self.prepare(topic, value, key, partition, headers, timestamp_ms)
        return await self.send_prepared(unsent)

    async def send_and_wait(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | Mapping[str, bytes | None] = (),
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """`send()`, and wait for the acknowledgement."""
        delivery = await self.send(
            topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms
        )
        return await delivery

    async def flush(self) -> None:
        """Send without lingering what was accepted so far, and return when all of it is acknowledged or given up."""
        self.check_usable()
        await self._flush()

    # -- transactions

    def transaction(self) -> Transaction[K, V]:
        """A transaction, for `async with`: it commits at the end of the block, or aborts by an exception.

            async with producer.transaction() as transaction:
                await transaction.send("transfers", b"...")
                await transaction.send_offsets({partition: offset + 1}, consumer)

        Raises TransactionAborted when it could not commit and was aborted: then do its work again. See TransactionError
        for the others; their `remedy` says what to do.
        """
        return Transaction(self, self._usable_transactions())

    def begin_transaction(self) -> None:
        """Begin one by hand; what is sent from now on belongs to it."""
        self._usable_transactions().begin()

    async def send_offsets_to_transaction(self, offsets: Offsets, group: GroupMetadata | HasGroup) -> None:
        """Let these offsets (of the next records to read) become the group's when the transaction commits."""
        await self._usable_transactions().send_offsets(offsets, group)

    async def commit_transaction(self) -> None:
        """Deliver what was sent, and commit. Raises TransactionError."""
        await self._usable_transactions().commit()

    async def abort_transaction(self) -> None:
        """Drop what was not sent, and abort. Raises TransactionError."""
        await self._usable_transactions().abort()

    def _usable_transactions(self) -> Transactions:
        self.check_usable()
        if self._transactions is None:
            raise ClientError(
                ErrorCode.INVALID_TXN_STATE,
                "there are no transactions without a name: give the producer a transactional_id",
            )
        return self._transactions

    async def partitions_for(self, topic: str) -> list[int]:
        """The partitions of a topic."""
        self.check_usable()
        view = await self._metadata.topic(topic, self._config.max_block_ms)
        return list(range(view.partition_count))

    async def close(self, timeout_ms: float | None = None) -> None:
        """Deliver what was accepted, then close; a transaction that is open is aborted.

        May be called again; see the class about cancellation.
        """
        if self._state != "open" or self._pid != pid():
            self._state = "closed"
            return
        self._state = "closing"
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                if self._transactions is not None:
                    await self._transactions.close()
                await self._flush()
        except TimeoutError:
            pass  # what is left is told ClientClosed by its delivery, below
        finally:
            self._state = "closed"
            for waiter in self._room:
                if not waiter.done():
                    waiter.set_exception(ClientClosed())
            self._sender.close()
            await self._metadata.close()
            await self._transport.close()

    async def _flush(self) -> None:
        self._accumulator.flushing += 1
        try:
            batches = list(self._accumulator.unsettled)
            self._sender.wake()
            for batch in batches:
                if not batch.done:
                    await batch.wait()
        finally:
            self._accumulator.flushing -= 1

    # -- the steps of `send`, for the blocking producer as well

    def check_usable(self) -> None:
        """Raises ClientForked or ClientClosed. Any thread."""
        check_not_forked(self._pid)
        if self._state != "open":
            state = NOT_STARTED if self._state == "new" else "closed"
            raise ClientClosed(f"the producer is {state}")

    def prepare(
        self,
        topic: str,
        value: V | None,
        key: K | None,
        partition: int | None,
        headers: Headers | Mapping[str, bytes | None],
        timestamp_ms: int | None,
    ) -> Unsent:
        """Serialize and measure. Any thread. Raises SerializationFailed, RecordTooLarge, TypeError."""
        key_bytes = self._serialized(key, self._key_serializer, "key", topic)
        value_bytes = self._serialized(value, self._value_serializer, "value", topic)
        header_items = tuple(headers.items() if isinstance(headers, Mapping) else headers) if headers else ()
        size = RECORD_OVERHEAD_BYTES + (len(key_bytes) if key_bytes else 0) + (len(value_bytes) if value_bytes else 0)
        for name, content in header_items:
            size += len(name) * 3 + (len(content) if content else 0) + 4
        if size > self._config.max_request_size:
            raise RecordTooLarge(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"the record takes {size} bytes, max_request_size is {self._config.max_request_size}",
                topic=topic,
                partition=partition,
            )
        timestamp = timestamp_ms if timestamp_ms is not None else int(time.time() * 1000)
        return Unsent(topic, partition, Record(0, timestamp, key_bytes, value_bytes, header_items), size)

    def is_ready_for(self, unsent: Unsent, waiting_bytes: int) -> bool:
        """Whether `accept` may be called without waiting, when so many bytes come before. Any thread."""
        return (
            unsent.topic in self._metadata.topics
            and (self._transactions is None or self._transactions.state is State.OPEN)
            and not self._room
            and self._accumulator.has_room(unsent.size_bytes, waiting_bytes)
        )

    async def send_prepared(self, unsent: Unsent) -> Delivery:
        """Accept when the topic is known and there is room."""
        if unsent.topic not in self._metadata.topics:
            await self._metadata.topic(unsent.topic, self._config.max_block_ms)
        if self._room or not self._accumulator.has_room(unsent.size_bytes):
            await self._wait_for_room(unsent.size_bytes, unsent.topic)
        return self.accept(unsent)

    def not_accepted(self, error: ClientError) -> None:
        """`accept` raised this where nobody may look: a transaction does not commit without the record."""
        if self._transactions is not None:
            self._transactions.delivery_failed(error)

    def accept(self, unsent: Unsent) -> Delivery:
        """Take a record of a topic that is known. Raises ClientError for a partition that is not there."""
        self.check_usable()
        if self._transactions is not None:
            self._transactions.check_send()
        topic, partition, record, size = unsent
        view = self._metadata.topics.get(topic)
        if view is None:  # it vanished while the record waited
            raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic=topic)
        index = self._partition(view, topic, record.key, partition)
        delivery, opened, full = self._accumulator.append(
            TopicPartition(topic, index), record, size, self._loop.time() * 1000
        )
        if full:
            if record.key is None and partition is None:
                self._sticky.batch_closed(topic, index, view.available)
            self._sender.wake()
        elif opened:
            self._sender.wake_in(self._config.linger_ms)
        return delivery

    def _serialized(self, value: Any, serializer: Callable[[Any], bytes] | None, what: str, topic: str) -> bytes | None:
        if value is None:
            return None
        if serializer is not None:
            try:
                value = serializer(value)
            except Exception as error:
                raise SerializationFailed(
                    ErrorCode.INVALID_RECORD, f"the {what}'s serializer raised {error!r}", topic=topic
                ) from error
        if isinstance(value, bytes):
            return value
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        raise TypeError(
            f"{what} must be bytes, not {type(value).__name__}: "
            f"encode it or give the producer a {what}_serializer (ottla.client.string_serializer, json_serializer)"
        )

    def _partition(self, view: TopicView, topic: str, key: bytes | None, partition: int | None) -> int:
        if partition is None:
            if self._partitioner is not None:
                partition = self._partitioner(key, view.partition_count)
            elif key is None:
                return self._sticky.partition(topic, view.available)
            else:
                return partition_for_key(key, view.partition_count)
        if not 0 <= partition < view.partition_count:
            raise ClientError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"the topic has partitions 0 to {view.partition_count - 1}",
                topic=topic,
                partition=partition,
                retriable=False,
            )
        return partition

    async def _wait_for_room(self, size: int, topic: str) -> None:
        """Return when it is this record's turn and there is room for it; first come, first served."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._room.append(waiter)
        self._accumulator.flushing += 1  # lingering would only hold up who waits
        self._sender.wake()
        try:
            async with asyncio.timeout(self._config.max_block_ms / 1000):
                while self._room[0] is not waiter or not self._accumulator.has_room(size):
                    await waiter
                    self.check_usable()
                    if not self._accumulator.has_room(size):
                        waiter = self._room[0] = self._loop.create_future()
        except TimeoutError:
            raise BufferExhausted(
                ErrorCode.REQUEST_TIMED_OUT,
                f"no room within max_block_ms={self._config.max_block_ms}: "
                f"buffer_memory={self._config.buffer_memory} is full of records that are not acknowledged",
                topic=topic,
            ) from None
        finally:
            self._accumulator.flushing -= 1
            self._room.remove(waiter)
            self._make_room()

    def _make_room(self) -> None:
        if self._room and not self._room[0].done():
            self._room[0].set_result(None)
