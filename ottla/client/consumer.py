"""The asyncio consumer: reads partitions of topics, alone or as a member of a group."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, Unpack, cast, overload

from ottla.client.config import ConsumerConfig, configured
from ottla.client.connect import open_transport
from ottla.client.consumer_groups import GroupConsumer
from ottla.client.coordinators import Coordinators
from ottla.client.errors import (
    NOT_STARTED,
    ClientClosed,
    ClientError,
    ErrorCode,
    SerializationFailed,
)
from ottla.client.fetcher import Fetcher
from ottla.client.forks import check_not_forked, pid
from ottla.client.metadata import Metadata
from ottla.client.offsets import list_offsets_surely
from ottla.client.partitions import PartitionState
from ottla.client.settings import ConsumerSettings
from ottla.client.transport import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, Transport
from ottla.client.types import ConsumerRecord, K, OffsetAndTimestamp, TopicPartition, V, several
from ottla.core.errors import ConfigError

Raw = ConsumerRecord[bytes | None, bytes | None]


class Consumer(GroupConsumer, Generic[K, V]):
    """Reads some topics: as a member of a group, or alone; or the partitions that `assign` names.

        async with Consumer("greetings", group_id="greeters", auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                print(record.key, record.value)

    **With a `group_id`** the group's members share the partitions, and each goes on where the group has committed.
    What a `poll` (or a step of `async for`) gave counts as processed when the next one begins; that is committed every
    `auto_commit_interval_ms`, before partitions go to other members, and by `close`. Leaving `async with` by an
    exception does not commit what the application was working on. With `enable_auto_commit=False` call `commit`. The
    callbacks `on_assigned`, `on_revoked` and `on_lost` run inside `poll` and `async for`, which give no record
    meanwhile; partitions that stay are read ahead on and on.

    **Without a group** nothing is committed: `position` tells where reading stands, `seek` moves it, and a new consumer
    starts where `auto_offset_reset` says. New partitions of the topics are read as they appear.

    Without deserializers keys and values are bytes; null is None either way. An error concerns what its topic and
    partition tell; after a damaged batch or a failed deserializer the position stays, so that the caller may `seek`
    past it. Cancelling `poll` or `async for` loses no record. A consumer belongs to one loop and one process.
    """

    @overload
    def __init__(
        self: "Consumer[bytes | None, bytes | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: None = None,
        value_deserializer: None = None,
        transport: Transport | None = None,
        **settings: Unpack[ConsumerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Consumer[bytes | None, V | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: None = None,
        value_deserializer: Callable[[bytes], V],
        transport: Transport | None = None,
        **settings: Unpack[ConsumerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Consumer[K | None, bytes | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: Callable[[bytes], K],
        value_deserializer: None = None,
        transport: Transport | None = None,
        **settings: Unpack[ConsumerSettings],
    ) -> None: ...
    @overload
    def __init__(
        self: "Consumer[K | None, V | None]",
        *topics: str,
        group_id: str | None = None,
        key_deserializer: Callable[[bytes], K],
        value_deserializer: Callable[[bytes], V],
        transport: Transport | None = None,
        **settings: Unpack[ConsumerSettings],
    ) -> None: ...
    def __init__(
        self,
        *topics: str,
        group_id: str | None = None,
        key_deserializer: Callable[[bytes], Any] | None = None,
        value_deserializer: Callable[[bytes], Any] | None = None,
        transport: Transport | None = None,
        **settings: Unpack[ConsumerSettings],
    ) -> None:
        """Connects to nothing yet; raises ConfigError for a wrong setting (see `config.ConsumerConfig`)."""
        super().__init__()
        if group_id == "":
            raise ConfigError("group_id is empty: name the group, or leave it out to read without one")
        self._group_id = group_id
        self._config = configured(ConsumerConfig, settings)
        self._topics = topics
        self._key_deserializer = key_deserializer
        self._value_deserializer = value_deserializer
        self._given_transport = transport
        self._pid = pid()
        self._state = "new"

    async def start(self) -> Self:
        """Connect; raises ClientError when no bootstrap server answers. `async with` does it."""
        if self._state != "new":
            raise ClientClosed("a consumer starts once: make a new one")
        self._transport = self._given_transport or open_transport(self._config)
        self._metadata = Metadata(self._transport, self._config, allow_auto_create=False)
        self._coordinators = Coordinators(self._transport, self._config)
        commits = self._start_group(self._transport, self._coordinators)
        committed = None if commits is None else commits.committed
        self._fetcher = Fetcher(self._config, self._transport, self._metadata, committed)
        try:
            await self._transport.open()
        except BaseException:
            await self._transport.close()
            raise
        self._metadata.start()
        self._state = "open"
        self._metadata.on_update(self._follow_topics)
        if self._topics:
            self._metadata.want(self._topics)
            if self._group_id is not None:
                self._join(self._transport, self._coordinators, self._topics)
            await self._metadata.updated()
        return self

    async def close(self) -> None:
        """Leave the group, if there is one, and close the connections; whoever waits in `poll` gets ClientClosed.

        With auto-commit what was given is committed first. May be called again.
        """
        if self._state == "open" and self._pid == pid():
            self._state = "leaving"
            self._fetcher.arrived.set()
            try:
                await self._leave_group()
            finally:
                self._state = "closed"
                await self._fetcher.close()
                await self._metadata.close()
                await self._transport.close()
        self._state = "closed"

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.forget_given()
        await self.close()

    # -- what is read

    def subscribe(self, *topics: str) -> None:
        """Read these topics, and no other: every partition, or with a group those that the group gives."""
        self._check_usable()
        self._topics = topics
        self._metadata.want(topics)
        if self._group_id is not None:
            self._join(self._transport, self._coordinators, topics)
        self._follow_topics()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these partitions; those that were read before keep their position.

        With a `group_id` offsets are committed and looked up, but nobody shares the partitions.
        """
        self._check_usable()
        if self._session is not None:
            raise ValueError("the group assigns the partitions of a consumer that has subscribed to topics")
        wanted = [TopicPartition(*partition) for partition in several(partitions)]
        self._topics = ()
        self._metadata.want(tuple({partition.topic for partition in wanted}))
        self._fetcher.assign(wanted)

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read."""
        self._check_usable()
        return set(self._fetcher.partitions)

    def pause(self, *partitions: TopicPartition) -> None:
        """Give no records of these partitions until `resume`."""
        for state in self._states(partitions):
            state.paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        """Give records of these partitions again."""
        for state in self._states(partitions):
            state.paused = False
        self._fetcher.wake()
        self._fetcher.arrived.set()

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        self._check_usable()
        return {partition for partition, state in self._fetcher.partitions.items() if state.paused}

    # -- records

    async def poll(
        self, timeout_ms: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord[K, V]]]:
        """What is there, at most `max_poll_records`; waits up to `timeout_ms` for the first record."""
        limit = max_records or self._config.max_poll_records
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        self._check_open()
        if self._commits is not None:
            self._poll_begins()
        try:
            while True:
                session = self._session
                if session is not None and not session.is_quiet and not await session.settle(deadline):
                    return {}
                self._check_open()
                found = self._take(limit)
                if found:
                    return found
                self._raise_error()
                remaining = deadline - asyncio.get_running_loop().time()
                if remaining <= 0 or not await self._wait(remaining):
                    self._check_open()
                    return {}
        finally:
            self._poll_ends()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumerRecord[K, V]:
        """The next record; waits for it. Ends when the consumer is closed."""
        if self._state in ("leaving", "closed"):
            raise StopAsyncIteration
        self._check_usable()
        in_group = self._commits is not None
        if in_group:
            self._poll_begins()
        try:
            while True:
                session = self._session
                if session is not None and not session.is_quiet:
                    await session.settle(None)
                if self._state != "open":
                    raise StopAsyncIteration
                for state in self._readable():
                    if in_group:
                        self._given.append(state)
                    record = state.peek()
                    if record is not None:
                        converted = self._convert(record)
                        state.advance()
                        if not state.has_data:
                            self._rotate(state)
                        return converted
                    self._rotate(state)
                self._raise_error()
                await self._wait(None)
        finally:
            self._poll_ends()

    # -- positions

    async def position(self, partition: TopicPartition) -> int:
        """The offset of the next record that will be given."""
        [state] = self._states((partition,))
        try:
            async with asyncio.timeout(self._config.api_timeout_ms / 1000):
                while state.position is None:
                    self._raise_error()
                    await self._wait(None)
                    self._check_usable()
        except TimeoutError:
            raise ClientError(
                ErrorCode.REQUEST_TIMED_OUT,
                f"no position within api_timeout_ms={self._config.api_timeout_ms}",
                topic=partition.topic,
                partition=partition.partition,
            ) from None
        return state.position

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at this offset. One that is not there is handled by `auto_offset_reset`."""
        if offset < 0:
            raise ValueError(f"an offset is at least 0, not {offset}")
        [state] = self._states((partition,))
        state.seek(offset)
        self._fetcher.forget_error(state.topic_partition)
        self._fetcher.wake()

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """As `seek`, for partitions that may be assigned no more."""
        for partition, offset in offsets.items():
            if partition in self.assignment():
                self.seek(partition, offset)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on at the first record; without arguments in every partition."""
        self._reset(partitions, EARLIEST_TIMESTAMP)

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on after the last record; without arguments in every partition."""
        self._reset(partitions, LATEST_TIMESTAMP)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        found = await self._list_offsets(dict.fromkeys(several(partitions), EARLIEST_TIMESTAMP))
        return {partition: answer.offset for partition, answer in found.items()}

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record that the isolation level shows."""
        found = await self._list_offsets(dict.fromkeys(several(partitions), LATEST_TIMESTAMP))
        return {partition: answer.offset for partition, answer in found.items()}

    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time (milliseconds since 1970); None where there is none."""
        for partition, timestamp in timestamps.items():
            if timestamp < 0:
                raise ValueError(f"{partition.topic}-{partition.partition}: a time is at least 0, not {timestamp}")
        found = await self._list_offsets(timestamps)
        return {partition: answer if answer.offset >= 0 else None for partition, answer in found.items()}

    async def partitions_for_topic(self, topic: str) -> set[int]:
        """The partitions of a topic; raises ClientError when it does not exist."""
        self._check_usable()
        view = await self._metadata.topic(topic, self._config.api_timeout_ms)
        return set(range(view.partition_count))

    async def topics(self) -> set[str]:
        """The names of all topics but internal ones."""
        self._check_usable()
        return {topic.name for topic in await self._transport.list_topics(include_internal=False)}

    # -- inside

    def _check_usable(self) -> None:
        check_not_forked(self._pid)
        if self._state not in ("open", "leaving"):
            state = NOT_STARTED if self._state == "new" else "closed"
            raise ClientClosed(f"the consumer is {state}")

    def _check_open(self) -> None:
        self._check_usable()
        if self._state != "open":
            raise ClientClosed("the consumer is closed")

    def _raise_error(self) -> None:
        error, self._fetcher.error = self._fetcher.error, None
        if error is not None:
            raise error

    async def _wait(self, seconds: float | None) -> bool:
        """Whether something arrived."""
        arrived = self._fetcher.arrived
        arrived.clear()
        try:
            async with asyncio.timeout(seconds):
                await arrived.wait()
        except TimeoutError:
            return False
        return True

    def _follow_topics(self) -> None:
        """Read the partitions that the topics have now."""
        if not self._topics or self._state != "open":
            return
        wanted = [
            TopicPartition(topic, index)
            for topic in self._topics
            if (view := self._metadata.topics.get(topic)) is not None
            for index in range(view.partition_count)
        ]
        # A topic that vanished for a moment keeps its place.
        missing = {topic for topic in self._topics if topic not in self._metadata.topics}
        wanted += [partition for partition in self._fetcher.partitions if partition.topic in missing]
        if self._group_id is None and wanted != list(self._fetcher.partitions):
            self._fetcher.assign(wanted)
        refused = [error for topic in missing if (error := self._metadata.errors.get(topic)) and not error.retriable]
        if refused:
            self._fetcher.error = refused[0]
            self._fetcher.arrived.set()

    def _states(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        self._check_usable()
        states: list[PartitionState] = []
        for partition in several(partitions):
            state = self._fetcher.partitions.get(partition)
            if state is None:
                raise ValueError(f"{partition[0]}-{partition[1]} is not assigned to this consumer")
            states.append(state)
        return states

    def _reset(self, partitions: tuple[TopicPartition, ...], timestamp: int) -> None:
        for state in self._states(partitions or tuple(self._fetcher.partitions)):
            state.reset(timestamp)
            self._fetcher.forget_error(state.topic_partition)
        self._fetcher.wake()

    async def _list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> dict[TopicPartition, OffsetAndTimestamp]:
        self._check_usable()
        return await list_offsets_surely(
            self._transport,
            self._metadata,
            self._config,
            timestamps,
            read_committed=self._config.isolation_level == "read_committed",
        )

    def _readable(self) -> list[PartitionState]:
        return [state for state in self._fetcher.partitions.values() if state.has_data and not state.paused]

    def _rotate(self, state: PartitionState) -> None:
        """The partition had its turn: others come first, and there is room to read ahead."""
        partitions = self._fetcher.partitions
        if state.topic_partition in partitions:
            partitions[state.topic_partition] = partitions.pop(state.topic_partition)
        self._fetcher.wake()

    def _take(self, limit: int) -> dict[TopicPartition, list[ConsumerRecord[K, V]]]:
        found: dict[TopicPartition, list[ConsumerRecord[K, V]]] = {}
        try:
            for state in self._readable():
                if self._commits is not None:
                    self._given.append(state)  # also when nothing comes: markers of transactions move the position
                while limit > 0 and (records := self._take_batch(state, limit)):
                    found.setdefault(state.topic_partition, []).extend(records)
                    limit -= len(records)
                self._rotate(state)
                if limit <= 0:
                    break
        except ClientError as error:
            if not found:
                raise
            # The caller gets what is good; the error comes again with the next call, as the position stays.
            self._fetcher.wake()
            del error
        return found

    def _take_batch(self, state: PartitionState, limit: int) -> list[ConsumerRecord[K, V]]:
        if self._key_deserializer is None and self._value_deserializer is None:
            return cast("list[ConsumerRecord[K, V]]", state.take(limit))
        converted: list[ConsumerRecord[K, V]] = []
        while len(converted) < limit and (record := state.peek()) is not None:
            try:
                converted.append(self._convert(record))
            except SerializationFailed:
                if not converted:
                    raise
                break
            state.advance()
        return converted

    def _convert(self, record: Raw) -> ConsumerRecord[K, V]:
        key: Any = record.key
        value: Any = record.value
        try:
            if self._key_deserializer is not None and key is not None:
                key = self._key_deserializer(key)
            if self._value_deserializer is not None and value is not None:
                value = self._value_deserializer(value)
        except Exception as error:
            raise SerializationFailed(
                ErrorCode.INVALID_RECORD,
                f"the deserializer raised {error!r} at offset {record.offset}; seek to {record.offset + 1} to skip it",
                topic=record.topic,
                partition=record.partition,
            ) from error
        return cast("ConsumerRecord[K, V]", record._replace(key=key, value=value))
