"""confluent-kafka (librdkafka) through the Kafka door. Its calls block, so each client makes them in a thread."""

import asyncio
import struct
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from ottla.core.errors import ConfigError
from ottla.testing.chaos.clients import port
from ottla.testing.chaos.clients.port import Address, At, Failure, Listener, Partition, Read, Remedy, Topic

T = TypeVar("T")

_POLL_S: Final = 0.05
_ASK_S: Final = 10.0
_IMPATIENT: Final = {
    "log_level": 2,
    "socket.timeout.ms": 3_000,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 200,
}
_CERTAIN: Final = frozenset(  # of a record: the client gave it up before it was sent, or the broker refused it
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}
)  # not _PURGE_QUEUE: what waits there to be sent again may have been appended the first time
_OFFSETS_S: Final = 10.0
_HANGS_AFTER_S: Final = 15.0


def open_library(address: Address) -> "ConfluentLibrary":
    """Raises ConfigError without a bootstrap address."""
    if not address.bootstrap:
        raise ConfigError("the client 'confluent' needs the cluster's Kafka addresses")
    return ConfluentLibrary(address)


def settings(address: Address) -> dict[str, Any]:
    """librdkafka's, for that cluster."""
    found: dict[str, Any] = {"bootstrap.servers": address.bootstrap, **_IMPATIENT}
    if address.ca_file is not None:
        found |= {"security.protocol": "ssl", "ssl.ca.location": address.ca_file}
    if address.certificate_file is not None:
        found |= {"ssl.certificate.location": address.certificate_file, "ssl.key.location": address.key_file}
    return found


def _failure(error: KafkaException) -> Failure:
    cause: KafkaError = error.args[0]
    text = f"{cause.name()}: {cause.str()}"
    if cause.txn_requires_abort():
        return Failure(text, is_known=True, remedy=Remedy.ABORT)
    if cause.fatal():
        return Failure(text, remedy=Remedy.CLOSE)
    return Failure(text, remedy=Remedy.RETRY if cause.retriable() else Remedy.CLOSE)


class _Thread:
    """One thread that makes the blocking calls of one client, in order."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._hangs = False

    async def call(self, function: Callable[..., T], *arguments: Any, limit_s: float | None = None) -> T:
        """`limit_s`: who does not come back until then never will; the client is of no use any more."""
        if self._hangs:
            raise Failure("an earlier call has not come back", remedy=Remedy.CLOSE)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *arguments))
        except TimeoutError as error:
            self._hangs = True
            raise Failure(f"the call does not come back within {limit_s:.0f} s", remedy=Remedy.CLOSE) from error
        except KafkaException as error:
            raise _failure(error) from error
        except SystemError as error:
            # It calls delivery reports with a fatal error already set, and what they read of a message breaks on it.
            if isinstance(error.__cause__, KafkaException):
                raise _failure(error.__cause__) from error
            raise

    def end(self) -> None:
        self._pool.shutdown(wait=False)


class _Producer:
    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._loop = asyncio.get_running_loop()
        self._calls = _Thread("chaos-producer")
        self._stopping = threading.Event()
        self._polling = threading.Thread(target=self._poll, name="chaos-deliveries", daemon=True)
        self._polling.start()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(_POLL_S)
            except KafkaException:  # fatal; the calls of the workload are told it, and what was sent is still reported
                self._stopping.wait(_POLL_S)

    async def init(self) -> None:
        await self._insist(self._producer.init_transactions, port.CALL_S)

    async def send(self, at: At, value: str | None, key: str | None = None) -> "asyncio.Future[int]":
        told: asyncio.Future[int] = self._loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            with suppress(RuntimeError):  # the loop has ended: nobody waits for it
                self._loop.call_soon_threadsafe(_tell, told, error, -1 if offset is None else offset)

        until = time.monotonic() + port.DELIVERY_S
        while True:
            try:
                self._producer.produce(at.topic, value, key, partition=at.partition, on_delivery=delivered)
            except BufferError as error:
                if time.monotonic() > until:
                    raise Failure(str(error), is_known=True, remedy=Remedy.RETRY) from error
                await asyncio.sleep(_POLL_S)
            except KafkaException as error:
                raise _failure(error) from error
            else:
                return told

    async def flush(self) -> None:
        await self._calls.call(self._producer.flush, port.DELIVERY_S)

    async def begin(self) -> None:
        await self._calls.call(self._producer.begin_transaction)

    async def send_offsets(self, offsets: Mapping[At, int], consumer: port.Consumer) -> None:
        assert isinstance(consumer, _Consumer)
        wanted = [TopicPartition(*at, offset) for at, offset in offsets.items()]
        group = consumer.inner.consumer_group_metadata()
        # Without a limit of ours it may wait for ever: librdkafka asks for the group's coordinator three times within
        # half a second, and if there is none yet, not again before a connection to any broker changes.
        send = partial(self._producer.send_offsets_to_transaction, wanted, group, _OFFSETS_S)
        await self._insist(send, limit_s=_HANGS_AFTER_S)

    async def commit(self) -> None:
        await self._insist(self._producer.commit_transaction, port.CALL_S)

    async def abort(self) -> None:
        await self._insist(self._producer.abort_transaction, port.CALL_S)

    async def _insist(self, function: Callable[..., object], *arguments: Any, limit_s: float | None = None) -> None:
        """Again while the library says that it may succeed, at most three times its own patience."""
        for _ in range(2):
            try:
                await self._calls.call(function, *arguments, limit_s=limit_s)
            except Failure as error:
                if error.remedy is not Remedy.RETRY:
                    raise
            else:
                return
        await self._calls.call(function, *arguments, limit_s=limit_s)

    async def close(self) -> None:
        with suppress(Failure):  # what it had open is ended by its successor, or by the transaction's time-out
            await self._calls.call(self._producer.flush, 5.0)
        self._stopping.set()
        self._calls.end()


def _tell(told: "asyncio.Future[int]", error: KafkaError | None, offset: int) -> None:
    if told.done():
        return
    if error is None:
        told.set_result(offset)
    else:
        known = error.code() in _CERTAIN
        told.set_exception(Failure(f"{error.name()}: {error.str()}", is_known=known, remedy=Remedy.CLOSE))


class _Consumer:
    def __init__(self, consumer: Consumer, listener: Listener | None) -> None:
        self.inner = consumer
        self._listener = listener
        self._found: list[Read] = []  # by the poll that is under way
        self._calls = _Thread("chaos-consumer")

    def subscribe(self, topics: Sequence[str]) -> None:
        self.inner.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def _assigned(self, _: Consumer, given: list[TopicPartition]) -> None:
        if self._listener is not None:
            self._listener.assigned(_places(given), *self._membership())

    def _revoked(self, _: Consumer, gone: list[TopicPartition]) -> None:
        self._drop(gone)
        if self._listener is not None:
            self._listener.revoked(_places(gone), *self._membership(), lost=False)

    def _lost(self, _: Consumer, gone: list[TopicPartition]) -> None:
        self._drop(gone)
        if self._listener is not None:
            self._listener.revoked(_places(gone), *self._membership(), lost=True)

    def _drop(self, gone: list[TopicPartition]) -> None:
        """Nobody was given these records yet: who gets their partitions begins with them."""
        places = set(_places(gone))
        self._found = [one for one in self._found if At(one.topic, one.partition) not in places]

    def _membership(self) -> tuple[int, str]:
        return _membership(self.inner.consumer_group_metadata())

    async def poll(self, timeout_s: float, limit: int = 500) -> list[Read]:
        return await self._calls.call(self._poll, timeout_s, limit)

    def _poll(self, timeout_s: float, limit: int) -> list[Read]:
        """One record at a time, so that a rebalance within the call is noticed before what follows it."""
        self._found = []
        until = time.monotonic() + timeout_s
        while len(self._found) < limit:
            message = self.inner.poll(0 if self._found else max(0.0, until - time.monotonic()))
            if message is None:
                break
            error = message.error()
            if error is None:
                self._found.append(_read(message))
            elif error.fatal():
                raise KafkaException(error)
        found, self._found = self._found, []
        return found

    def seek(self, at: At, offset: int) -> None:
        with suppress(KafkaException):  # it is not its own any more, and begins elsewhere at the group's offset
            self.inner.seek(TopicPartition(*at, offset))

    async def commit(self, offsets: Mapping[At, int]) -> None:
        wanted = [TopicPartition(*at, offset) for at, offset in offsets.items()]
        try:
            told = await self._calls.call(partial(self.inner.commit, offsets=wanted, asynchronous=False))
        except Failure as error:
            raise Failure(str(error), is_known=error.is_known, remedy=Remedy.RETRY) from error
        for one in told:
            if one.error is not None:
                raise Failure(str(one.error), remedy=Remedy.RETRY)

    async def close(self) -> None:
        with suppress(Failure):  # the group drops it after its session
            await self._calls.call(self.inner.close)
        self._calls.end()


def _places(partitions: Sequence[TopicPartition]) -> Collection[At]:
    return [At(one.topic, one.partition) for one in partitions]


def _membership(metadata: bytes) -> tuple[int, str]:
    """Generation and member id from librdkafka's own serialisation: CGMDv2:, i32, group id, NUL, member id, NUL, …"""
    head = b"CGMDv2:"
    if not metadata.startswith(head):
        return -1, ""
    (generation,) = struct.unpack_from("=i", metadata, len(head))
    names = metadata[len(head) + 4 :].split(b"\0")
    return generation, names[1].decode(errors="replace") if len(names) > 1 else ""


def _read(message: Message) -> Read:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Read(topic, partition, offset, _text(message.key()), _text(message.value()))


def _text(data: bytes | str | None) -> str | None:
    return data.decode() if isinstance(data, bytes) else data


class Asking:
    """The part of `port.Library` that asks the cluster, by librdkafka's admin client; aiokafka's lacks some of it."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._own = dict(own)
        self._calls = _Thread("chaos-admin")
        self._client: AdminClient | None = None

    def _admin(self) -> AdminClient:
        if self._client is None:
            self._client = AdminClient(self._own)
        return self._client

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        wanted = [
            NewTopic(one.name, one.partitions, one.replication_factor, config=dict(one.configs)) for one in topics
        ]

        def create() -> None:
            for future in self._admin().create_topics(wanted, operation_timeout=port.CALL_S).values():
                future.result(port.CALL_S)

        await self._calls.call(create)
        until = time.monotonic() + port.CALL_S
        while any(one.leader < 0 for one in await self.partitions([topic.name for topic in topics])):
            if time.monotonic() > until:
                raise Failure("new topics have no leaders")
            await asyncio.sleep(0.1)

    async def delete_topics(self, names: Sequence[str]) -> None:
        def delete() -> None:
            for future in self._admin().delete_topics(list(names), operation_timeout=port.CALL_S).values():
                future.result(port.CALL_S)

        await self._calls.call(delete)

    async def partitions(self, topics: Sequence[str]) -> list[Partition]:
        def ask() -> list[Partition]:
            found = self._admin().list_topics(timeout=_ASK_S).topics
            return [
                Partition(at=At(name, index), leader=one.leader, replicas=tuple(one.replicas), in_sync=tuple(one.isrs))
                for name in topics
                if name in found
                for index, one in found[name].partitions.items()
            ]

        return await self._calls.call(ask)

    async def ends(self, partitions: Sequence[At], *, committed_only: bool) -> dict[At, int]:
        level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED

        def ask() -> dict[At, int]:
            asked = {TopicPartition(*at): OffsetSpec.latest() for at in partitions}
            told = self._admin().list_offsets(asked, isolation_level=level, request_timeout=_ASK_S)
            try:
                found = {At(one.topic, one.partition): future.result(_ASK_S + 5).offset for one, future in told.items()}
            except KafkaException:
                self._client = None  # refused for its leader's epoch, it goes on with the one that it has cached
                raise
            if unknown := sorted(at for at, end in found.items() if end < 0):
                # Without a leader librdkafka reports no error, only the offset -1001.
                raise Failure(f"where {unknown} end is not known", remedy=Remedy.RETRY)
            return found

        return await self._calls.call(ask)

    async def committed(self, group: str, partitions: Sequence[At]) -> dict[At, int]:
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(*at) for at in partitions])

        def ask() -> dict[At, int]:
            asked = self._admin().list_consumer_group_offsets([wanted], require_stable=True, request_timeout=_ASK_S)
            told = asked[group].result(_ASK_S + 5).topic_partitions
            return {At(one.topic, one.partition): one.offset for one in told if one.offset >= 0}

        return await self._calls.call(ask)

    async def group(self, name: str) -> tuple[str, int]:
        def ask() -> tuple[str, int]:
            [future] = self._admin().describe_consumer_groups([name], request_timeout=_ASK_S).values()
            found = future.result(_ASK_S + 5)
            return found.state.name.capitalize(), len(found.members)

        return await self._calls.call(ask)

    async def close(self) -> None:
        self._calls.end()


class ConfluentLibrary(Asking):
    """See `port.Library`."""

    name = "confluent"
    groups_in_transactions = True

    def __init__(self, address: Address) -> None:
        super().__init__(settings(address))

    async def producer(self, transactional_id: str | None = None, transaction_timeout_s: float = 10.0) -> port.Producer:
        own = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "message.timeout.ms": int(port.DELIVERY_S * 1000),
            # What it does with sequences and epochs goes into the process's log, beside the history.
            "debug": "eos",
            "log_level": 7,
        }
        if transactional_id is not None:
            own |= {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": int(transaction_timeout_s * 1000),
                "message.timeout.ms": int(transaction_timeout_s * 1000),
            }
        producer = _Producer(Producer({**self._own, **own}))
        if transactional_id is not None:
            try:
                await producer.init()
            except Failure:
                await producer.close()
                raise
        return producer

    async def consumer(
        self,
        *,
        assigned: Sequence[At] = (),
        subscribed: Sequence[str] = (),
        group: str | None = None,
        committed_only: bool = False,
        listener: Listener | None = None,
    ) -> port.Consumer:
        own = {
            "group.id": group or "ottla-chaos-no-group",  # the library wants one, also to read without
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed" if committed_only else "read_uncommitted",
            "fetch.wait.max.ms": 200,
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 500,
        }
        consumer = _Consumer(Consumer({**self._own, **own}), listener)
        if assigned:
            first = -2 if group is None else -1001  # OFFSET_BEGINNING; OFFSET_INVALID: what the group has committed
            consumer.inner.assign([TopicPartition(*at, first) for at in assigned])
        elif subscribed:
            consumer.subscribe(subscribed)
        return consumer
