"""The blocking consumer."""

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, cast, overload

from ottla.client import consumer as asyncio_consumer
from ottla.client.config import BlockingListener, PartitionsListener
from ottla.client.coordination import GroupMetadata, OffsetAndMetadata
from ottla.client.settings import BlockingConsumerSettings, ConsumerSettings
from ottla.client.sync.loop_thread import LoopThread
from ottla.client.types import ConsumerRecord, K, OffsetAndTimestamp, TopicPartition, V

T = TypeVar("T")

# One hop between threads brings this many records to `for`; their number bounds what a `close` in between gives up.
_POLL_SECONDS = 3_600.0


class Consumer(Generic[K, V]):
    """As `ottla.client.Consumer`, whose settings and meanings it shares; for one thread at a time.

        for record in consumer: ...

    gives records as they come, without end. `for` takes them one batch after the other: `position` is ahead of the
    record that `for` gave last, by at most `max_poll_records`, and a `seek` drops what was taken already. `commit` and
    `close` know what `for` has given. `on_assigned`, `on_revoked` and `on_lost` may be plain functions, which run in
    another thread while this one waits in `poll` or `for`, and may call the consumer: `seek`, `commit`. Async functions
    run on the clients' loop.
    """

    @overload
    def __init__(
        self: "Consumer[bytes | None, bytes | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: None = None,
        value_deserializer: None = None,
        **settings: Unpack[BlockingConsumerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Consumer[bytes | None, V | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: None = None,
        value_deserializer: Callable[[bytes], V],
        **settings: Unpack[BlockingConsumerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Consumer[K | None, bytes | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: Callable[[bytes], K],
        value_deserializer: None = None,
        **settings: Unpack[BlockingConsumerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Consumer[K | None, V | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: Callable[[bytes], K],
        value_deserializer: Callable[[bytes], V],
        **settings: Unpack[BlockingConsumerSettings],
    ) -> None: ...
    def __init__(
        self,
        *topics: str,
        group_id: Any = None,
        key_deserializer: Any = None,
        value_deserializer: Any = None,
        **settings: Unpack[BlockingConsumerSettings],
    ) -> None:
        """Connects; raises ConfigError for a wrong setting, ClientError when no bootstrap server answers."""
        made = asyncio_consumer.Consumer(
            *topics,
            group_id=group_id,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
            **_on_loop(settings),
        )
        self._consumer = cast("asyncio_consumer.Consumer[K, V]", made)
        self._group_id = group_id
        self._taken: list[ConsumerRecord[K, V]] = []  # for `for`, last first
        self._given: ConsumerRecord[K, V] | None = None  # by `for`, last
        self._thread = LoopThread.shared()
        self._thread.run(self._consumer.start())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # By an exception: the application was at work on what it got last.
        if error is not None and self._given is not None:
            self._taken.append(self._given)
        elif error is not None:
            self._call(lambda consumer: consumer.forget_given())
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumerRecord[K, V]:
        self._given = None
        while not self._taken:
            found = self._thread.run(self._consumer.poll(_POLL_SECONDS * 1000))
            self._taken = [record for records in reversed(found.values()) for record in reversed(records)]
        self._given = self._taken.pop()
        return self._given

    def poll(
        self, timeout_ms: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord[K, V]]]:
        """What is there, at most `max_poll_records`; waits up to `timeout_ms` for the first record."""
        self._give_back()
        self._given = None
        return self._thread.run(self._consumer.poll(timeout_ms, max_records))

    def close(self) -> None:
        """Leave the group, if there is one, and close the connections. May be called again."""
        if self._group_id is not None:
            self._give_back()
        self._taken.clear()
        self._thread.run(self._consumer.close())

    # -- the group's offsets

    def commit(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """Commit these offsets (of the next records to read), or all that was given."""
        if offsets is None:
            self._give_back()
        self._thread.run(self._consumer.commit(offsets))

    def commit_async(self, offsets: Mapping[TopicPartition, int | OffsetAndMetadata] | None = None) -> None:
        """As `commit`, in the background and in the order of the calls; a failure is logged."""
        if offsets is None:
            self._give_back()
        self._call(lambda consumer: consumer.commit_async(offsets))

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed of these partitions; None where nothing is."""
        return self._thread.run(self._consumer.committed(partitions))

    def group_metadata(self) -> GroupMetadata:
        """The group and this consumer's membership in it."""
        return self._call(lambda consumer: consumer.group_metadata())

    def subscribe(self, *topics: str) -> None:
        """Read every partition of these topics, and no other."""
        self._call(lambda consumer: consumer.subscribe(*topics))

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these partitions."""
        self._call(lambda consumer: consumer.assign(partitions))

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read."""
        return self._call(lambda consumer: consumer.assignment())

    def pause(self, *partitions: TopicPartition) -> None:
        """Give no records of these partitions until `resume`."""
        self._call(lambda consumer: consumer.pause(*partitions))

    def resume(self, *partitions: TopicPartition) -> None:
        """Give records of these partitions again."""
        self._call(lambda consumer: consumer.resume(*partitions))

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return self._call(lambda consumer: consumer.paused())

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record that will be taken."""
        return self._thread.run(self._consumer.position(partition))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at this offset."""
        self._call(lambda consumer: consumer.seek(partition, offset))
        self._drop((partition,))

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on at the first record; without arguments in every partition."""
        self._call(lambda consumer: consumer.seek_to_beginning(*partitions))
        self._drop(partitions)

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on after the last record; without arguments in every partition."""
        self._call(lambda consumer: consumer.seek_to_end(*partitions))
        self._drop(partitions)

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        return self._thread.run(self._consumer.beginning_offsets(partitions))

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record that the isolation level shows."""
        return self._thread.run(self._consumer.end_offsets(partitions))

    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time; None where there is none."""
        return self._thread.run(self._consumer.offsets_for_times(timestamps))

    def partitions_for_topic(self, topic: str) -> set[int]:
        """The partitions of a topic; raises ClientError when it does not exist."""
        return self._thread.run(self._consumer.partitions_for_topic(topic))

    def topics(self) -> set[str]:
        """The names of all topics but internal ones."""
        return self._thread.run(self._consumer.topics())

    @property
    def on_loop(self) -> asyncio_consumer.Consumer[K, V]:
        """The consumer on the clients' loop."""
        return self._consumer

    def _call(self, call: Callable[["asyncio_consumer.Consumer[K, V]"], T]) -> T:
        """On the loop's thread, which owns the consumer."""

        async def there() -> T:
            return call(self._consumer)

        return self._thread.run(there())

    def _give_back(self) -> None:
        """What was taken for `for` and not given is to be read again."""
        first: dict[TopicPartition, int] = {}
        for record in self._taken:  # last first
            first[TopicPartition(record.topic, record.partition)] = record.offset
        self._taken.clear()
        if first:
            self._call(lambda consumer: consumer.rewind(first))

    def _drop(self, partitions: tuple[TopicPartition, ...]) -> None:
        """Forget what was taken for `for` of partitions that are read from elsewhere now."""
        if not partitions:
            self._taken.clear()
        self._taken = [it for it in self._taken if (it.topic, it.partition) not in partitions]


def _on_loop(settings: BlockingConsumerSettings) -> ConsumerSettings:
    """The settings for the loop. It has to run while a plain function does, which may call the consumer."""

    def awaited(listener: BlockingListener) -> PartitionsListener:
        async def told(partitions: list[TopicPartition]) -> None:
            await asyncio.to_thread(listener, partitions)

        return told

    made: dict[str, Any] = dict(settings)
    for name in ("on_assigned", "on_revoked", "on_lost"):
        listener = made.get(name)
        if callable(listener) and not inspect.iscoroutinefunction(listener):
            made[name] = awaited(listener)
    return cast("ConsumerSettings", made)
