"""aiokafka through the Kafka door; the questions to the cluster are confluent-kafka's.

Its transactions know nothing of groups' members, so a workload gives each copier partitions of its own.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalOperation,
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)
from aiokafka.helpers import create_ssl_context

from ottla.core.errors import ConfigError
from ottla.testing.chaos.clients import port
from ottla.testing.chaos.clients.confluent_library import Asking, settings
from ottla.testing.chaos.clients.port import Address, At, Failure, Listener, Read, Remedy

_REQUEST_MS: Final = 5_000


def open_library(address: Address) -> "AiokafkaLibrary":
    """Raises ConfigError without a bootstrap address."""
    if not address.bootstrap:
        raise ConfigError("the client 'aiokafka' needs the cluster's Kafka addresses")
    return AiokafkaLibrary(address)


def _failure(error: Exception) -> Failure:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MessageSizeTooLargeError):
        return Failure(text, is_known=True, remedy=Remedy.CLOSE)
    if isinstance(error, CommitFailedError):
        return Failure(text, is_known=True, remedy=Remedy.RETRY)
    # A transaction that fails leaves its producer in a state that only a new one is sure to get out of.
    return Failure(text, remedy=Remedy.CLOSE)


_ERRORS: Final = (KafkaError, IllegalOperation, IllegalStateError, ProducerFenced, TimeoutError, AssertionError)


async def _told(call: Any, timeout_s: float = port.CALL_S) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except _ERRORS as error:
        raise _failure(error) from error


class _Producer:
    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._lost: BaseException | None = None  # why the first record that was given up was

    async def send(self, at: At, value: str | None, key: str | None = None) -> "asyncio.Future[int]":
        own: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        told = await _told(
            self._producer.send(at.topic, _bytes(value), _bytes(key), partition=at.partition), port.DELIVERY_S
        )
        told.add_done_callback(self._note)
        told.add_done_callback(lambda done: _tell(own, done))
        return own

    def _note(self, done: "asyncio.Future[Any]") -> None:
        if self._lost is None and not done.cancelled():
            self._lost = done.exception()

    async def flush(self) -> None:
        await _told(self._producer.flush(), port.DELIVERY_S)

    async def begin(self) -> None:
        await _told(self._producer.begin_transaction())

    async def send_offsets(self, offsets: Mapping[At, int], consumer: port.Consumer) -> None:
        assert isinstance(consumer, _Consumer)
        wanted = {TopicPartition(*at): offset for at, offset in offsets.items()}
        await _told(self._producer.send_offsets_to_transaction(wanted, consumer.group))

    async def commit(self) -> None:
        """Other than aiokafka's, not without a record that was given up: it would tear the transaction apart.

        Nor can the producer go on: later records of that partition are behind a gap in its sequences.
        """
        await self.flush()
        if self._lost is not None:
            raise Failure(f"a record was given up: {self._lost}", is_known=True, remedy=Remedy.CLOSE)
        await _told(self._producer.commit_transaction())

    async def abort(self) -> None:
        await _told(self._producer.abort_transaction())

    async def close(self) -> None:
        with suppress(Failure):  # what it had open is ended by its successor, or by the transaction's time-out
            await _told(self._producer.stop(), 10)


def _tell(own: "asyncio.Future[int]", done: "asyncio.Future[Any]") -> None:
    if own.done():
        return
    if done.cancelled():
        own.set_exception(Failure("the producer was closed"))
        return
    error = done.exception()
    if isinstance(error, Exception):
        own.set_exception(_failure(error))
    elif error is not None:
        raise error
    else:
        own.set_result(done.result().offset)


class _Listening(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.consumer: AIOKafkaConsumer

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """The library's callback, as the next."""
        self._listener.assigned(_places(assigned), *self._membership())

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._listener.revoked(_places(revoked), *self._membership(), lost=False)

    def _membership(self) -> tuple[int, str]:
        coordinator = self.consumer._coordinator
        return int(coordinator.generation), str(coordinator.member_id)


class _Consumer:
    def __init__(self, consumer: AIOKafkaConsumer, group: str | None) -> None:
        self._consumer = consumer
        self.group = group

    async def poll(self, timeout_s: float, limit: int = 500) -> list[Read]:
        found = await _told(self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=limit))
        return [
            Read(one.topic, one.partition, one.offset, _text(one.key), _text(one.value))
            for records in found.values()
            for one in records
        ]

    def seek(self, at: At, offset: int) -> None:
        with suppress(IllegalStateError):  # it is not its own any more, and begins elsewhere at the group's offset
            self._consumer.seek(TopicPartition(*at), offset)

    async def commit(self, offsets: Mapping[At, int]) -> None:
        await _told(self._consumer.commit({TopicPartition(*at): offset for at, offset in offsets.items()}))

    async def close(self) -> None:
        try:
            await _told(self._consumer.stop(), 10)
        except Failure:
            pass  # the group drops it after its session
        except asyncio.CancelledError:
            # aiokafka cancels a fetch that waits after a failure, and lets that cancellation out as if it were ours.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            await self._consumer._client.close()  # which it has left out


def _places(partitions: Collection[TopicPartition]) -> Collection[At]:
    return [At(one.topic, one.partition) for one in partitions]


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


class AiokafkaLibrary(Asking):
    """See `port.Library`."""

    name = "aiokafka"
    groups_in_transactions = False

    def __init__(self, address: Address) -> None:
        super().__init__(settings(address))
        self._settings: dict[str, Any] = {
            "bootstrap_servers": address.bootstrap.split(","),
            "request_timeout_ms": _REQUEST_MS,
            "retry_backoff_ms": 20,
        }
        if address.ca_file is not None:
            self._settings |= {
                "security_protocol": "SSL",
                "ssl_context": create_ssl_context(
                    cafile=address.ca_file, certfile=address.certificate_file, keyfile=address.key_file
                ),
            }

    async def producer(self, transactional_id: str | None = None, transaction_timeout_s: float = 10.0) -> port.Producer:
        producer = AIOKafkaProducer(
            **self._settings,
            enable_idempotence=True,
            linger_ms=2,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(transaction_timeout_s * 1000),
        )
        try:
            await _told(producer.start())
        except Failure:
            await _Producer(producer).close()
            raise
        return _Producer(producer)

    async def consumer(
        self,
        *,
        assigned: Sequence[At] = (),
        subscribed: Sequence[str] = (),
        group: str | None = None,
        committed_only: bool = False,
        listener: Listener | None = None,
    ) -> port.Consumer:
        consumer = AIOKafkaConsumer(
            **self._settings,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if committed_only else "read_uncommitted",
            fetch_max_wait_ms=200,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=500,
        )
        own = _Consumer(consumer, group)
        if subscribed and listener is not None:
            listening = _Listening(listener)
            listening.consumer = consumer
            consumer.subscribe(list(subscribed), listener=listening)
        elif subscribed:
            consumer.subscribe(list(subscribed))
        try:
            await _told(consumer.start())
        except Failure:
            await own.close()
            raise
        if assigned:
            consumer.assign([TopicPartition(*at) for at in assigned])
        return own
