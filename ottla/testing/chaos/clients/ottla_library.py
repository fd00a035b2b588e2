"""Our own client through the gRPC door."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ottla.client import (
    Admin,
    ClientError,
    CommitFailed,
    Consumer,
    Delivery,
    ErrorCode,
    NewTopic,
    Producer,
    TopicPartition,
    TransactionError,
)
from ottla.client.errors import BufferExhausted, RecordTooLarge
from ottla.client.errors import Remedy as ClientRemedy
from ottla.core.errors import ConfigError
from ottla.testing.chaos.clients import port
from ottla.testing.chaos.clients.port import Address, At, Failure, Listener, Partition, Read, Remedy, Topic


def open_library(address: Address) -> "OttlaLibrary":
    """Raises ConfigError without a gRPC address."""
    if not address.grpc:
        raise ConfigError("the client 'ottla' needs the cluster's gRPC addresses (Kafka's ports + 1000)")
    return OttlaLibrary(address)


_REMEDIES = {ClientRemedy.RETRY: Remedy.RETRY, ClientRemedy.ABORT: Remedy.ABORT, ClientRemedy.CLOSE: Remedy.CLOSE}


def _failure(error: ClientError | TimeoutError) -> Failure:
    if isinstance(error, TransactionError):
        remedy = _REMEDIES[error.remedy]
        return Failure(f"{type(error).__name__}: {error}", is_known=remedy is Remedy.ABORT, remedy=remedy)
    if isinstance(error, CommitFailed | RecordTooLarge | BufferExhausted):
        return Failure(f"{type(error).__name__}: {error}", is_known=True, remedy=Remedy.RETRY)
    if isinstance(error, ClientError) and error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return Failure(f"{type(error).__name__}: {error}", is_known=True, remedy=Remedy.RETRY)
    retriable = isinstance(error, ClientError) and error.retriable
    return Failure(f"{type(error).__name__}: {error}", remedy=Remedy.RETRY if retriable else Remedy.CLOSE)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


class _Producer:
    def __init__(self, producer: Producer[bytes, bytes]) -> None:
        self._producer = producer

    async def send(self, at: At, value: str | None, key: str | None = None) -> "asyncio.Future[int]":
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            delivery = await self._producer.send(at.topic, _bytes(value), key=_bytes(key), partition=at.partition)
        except ClientError as error:
            raise _failure(error) from error
        delivery.add_done_callback(partial(_tell, told))
        return told

    async def flush(self) -> None:
        await _told(self._producer.flush())

    async def begin(self) -> None:
        try:
            self._producer.begin_transaction()
        except ClientError as error:
            raise _failure(error) from error

    async def send_offsets(self, offsets: Mapping[At, int], consumer: port.Consumer) -> None:
        assert isinstance(consumer, _Consumer)
        wanted = {TopicPartition(*at): offset for at, offset in offsets.items()}
        await _told(self._producer.send_offsets_to_transaction(wanted, consumer.inner))

    async def commit(self) -> None:
        await _told(self._producer.commit_transaction())

    async def abort(self) -> None:
        await _told(self._producer.abort_transaction())

    async def close(self) -> None:
        with suppress(
            ClientError, TimeoutError
        ):  # what it had open is ended by its successor, or by the transaction's time-out
            await self._producer.close(timeout_ms=5_000)


def _tell(told: "asyncio.Future[int]", delivery: Delivery) -> None:
    if told.done():
        return
    error = delivery.exception()
    if error is not None:
        told.set_exception(_failure(error))
    else:
        told.set_result(delivery.result().offset)


class _Consumer:
    def __init__(self, listener: Listener | None) -> None:
        self.inner: Consumer[bytes | None, bytes | None]
        self._listener = listener

    async def assigned(self, given: list[TopicPartition]) -> None:
        """The client's callback, as the next two."""
        if self._listener is not None:
            self._listener.assigned([At(*one) for one in given], *self._membership())

    async def revoked(self, gone: list[TopicPartition]) -> None:
        if self._listener is not None:
            self._listener.revoked([At(*one) for one in gone], *self._membership(), lost=False)

    async def lost(self, gone: list[TopicPartition]) -> None:
        if self._listener is not None:
            self._listener.revoked([At(*one) for one in gone], *self._membership(), lost=True)

    def _membership(self) -> tuple[int, str]:
        try:
            group = self.inner.group_metadata()
        except CommitFailed:  # dropped by the group
            return -1, ""
        return group.member_epoch, group.member_id

    async def poll(self, timeout_s: float, limit: int = 500) -> list[Read]:
        try:
            found = await self.inner.poll(timeout_s * 1000, limit)
        except ClientError as error:
            raise _failure(error) from error
        return [
            Read(one.topic, one.partition, one.offset, _text(one.key), _text(one.value))
            for records in found.values()
            for one in records
        ]

    def seek(self, at: At, offset: int) -> None:
        self.inner.rewind({TopicPartition(*at): offset})

    async def commit(self, offsets: Mapping[At, int]) -> None:
        await _told(self.inner.commit({TopicPartition(*at): offset for at, offset in offsets.items()}))

    async def close(self) -> None:
        try:
            async with asyncio.timeout(10):
                await self.inner.close()
        except (ClientError, TimeoutError):
            pass  # the group drops it after its session


class OttlaLibrary:
    """See `port.Library`."""

    name = "ottla"
    groups_in_transactions = True

    def __init__(self, address: Address) -> None:
        self._settings: dict[str, Any] = {
            "bootstrap_servers": address.grpc,
            "client_id": "ottla-chaos",
            "retry_backoff_ms": 20,
            "retry_backoff_max_ms": 200,
            "request_timeout_ms": 3_000,
            "api_timeout_ms": int(port.CALL_S * 1000),
            "ssl_cafile": address.ca_file,
            "ssl_certfile": address.certificate_file,
            "ssl_keyfile": address.key_file,
        }
        self._admin: Admin | None = None

    async def producer(self, transactional_id: str | None = None, transaction_timeout_s: float = 10.0) -> port.Producer:
        producer: Producer[bytes, bytes] = Producer(
            **self._settings,
            linger_ms=2,
            delivery_timeout_ms=int(port.DELIVERY_S * 1000),
            transactional_id=transactional_id,
            transaction_timeout_ms=int(transaction_timeout_s * 1000),
        )
        await _told(producer.start())
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
        consumer = _Consumer(listener)
        consumer.inner = Consumer(
            *subscribed,
            group_id=group,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if committed_only else "read_uncommitted",
            fetch_max_wait_ms=200,
            enable_auto_commit=False,
            on_assigned=consumer.assigned,
            on_revoked=consumer.revoked,
            on_lost=consumer.lost,
            **self._settings,
        )
        await _told(consumer.inner.start())
        if assigned:
            consumer.inner.assign([TopicPartition(*at) for at in assigned])
        return consumer

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        admin = await self._asking()
        wanted = [NewTopic(one.name, one.partitions, one.replication_factor, one.configs) for one in topics]
        await _told(admin.create_topics(wanted))

    async def delete_topics(self, names: Sequence[str]) -> None:
        await _told((await self._asking()).delete_topics(names))

    async def partitions(self, topics: Sequence[str]) -> list[Partition]:
        try:
            found = await (await self._asking()).describe_topics(topics)
        except ClientError as error:
            raise _failure(error) from error
        return [
            Partition(
                at=At(topic.name, one.partition),
                leader=one.leader_id,
                replicas=one.replica_ids,
                in_sync=one.in_sync_replica_ids,
            )
            for topic in found
            for one in topic.partitions
        ]

    async def ends(self, partitions: Sequence[At], *, committed_only: bool) -> dict[At, int]:
        consumer = await self.consumer(committed_only=committed_only)
        assert isinstance(consumer, _Consumer)
        try:
            found = await consumer.inner.end_offsets([TopicPartition(*at) for at in partitions])
        except ClientError as error:
            raise _failure(error) from error
        finally:
            await consumer.close()
        return {At(*at): offset for at, offset in found.items()}

    async def committed(self, group: str, partitions: Sequence[At]) -> dict[At, int]:
        wanted = [TopicPartition(*at) for at in partitions]
        try:
            found = await (await self._asking()).list_group_offsets(group, wanted)
        except ClientError as error:
            raise _failure(error) from error
        return {At(*one): told.offset for one, told in found.items() if told.offset >= 0}

    async def group(self, name: str) -> tuple[str, int]:
        try:
            found = await (await self._asking()).describe_group(name)
        except ClientError as error:
            raise _failure(error) from error
        return found.state, len(found.members)

    async def close(self) -> None:
        if self._admin is not None:
            await self._admin.close()

    async def _asking(self) -> Admin:
        if self._admin is None:
            admin = Admin(**self._settings)
            await _told(admin.start())
            self._admin = admin
        return self._admin


async def _told(call: Any) -> None:
    try:
        await call
    except (ClientError, TimeoutError) as error:
        raise _failure(error) from error
