"""What a client knows of topics and their leaders, and the task that asks again: on demand, and when it grows old."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ottla.client.backoff import Backoff
from ottla.client.config import ConnectionConfig
from ottla.client.errors import ClientClosed, ClientError, ErrorCode
from ottla.client.transport import Transport
from ottla.client.types import TopicDescription, TopicPartition

logger = logging.getLogger("ottla.client")


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic's leaders, by partition index: the part of its description that sending and reading need."""

    partition_count: int
    leader_ids: tuple[int, ...]  # -1: none
    leader_epochs: tuple[int, ...]
    available: tuple[int, ...]  # the partitions with a leader; all when none has one


class Metadata:
    """The topics that a client uses (or all), kept up to date while it is open."""

    def __init__(self, transport: Transport, config: ConnectionConfig, *, allow_auto_create: bool) -> None:
        self._transport = transport
        self._config = config
        self._allow_auto_create = allow_auto_create
        self._backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
        self._wanted: dict[str, None] = {}
        self.topics: dict[str, TopicView] = {}
        self.errors: dict[str, ClientError] = {}
        self.last_error: ClientError | None = None  # why the last update failed as a whole
        self._listeners: list[Callable[[], object]] = []
        self._wake = asyncio.Event()
        self._is_old = False
        self._updated: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it up to date."""
        self._task = asyncio.create_task(self._run(), name="ottla-client-metadata")

    async def close(self) -> None:
        """Stop; whoever waits for an update is told that the client is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._updated is not None and not self._updated.done():
            self._updated.set_exception(ClientClosed())
            self._updated.exception()  # seen: nobody may be waiting
        self._updated = None

    def on_update(self, listener: Callable[[], object]) -> None:
        """Call `listener` after every update."""
        self._listeners.append(listener)

    def want(self, topics: tuple[str, ...]) -> None:
        """Keep these topics up to date, too."""
        if any(topic not in self._wanted for topic in topics):
            self._wanted.update(dict.fromkeys(topics))
            self._wake.set()

    def request_update(self) -> None:
        """Ask soon, as what is known proved to be old; and another node: the one that said so may not know better."""
        self._is_old = True
        self._wake.set()

    async def updated(self) -> None:
        """Return after the next update, whether it went well or not."""
        if self._task is None or self._task.done():
            raise ClientClosed()
        if self._updated is None:
            self._updated = asyncio.get_running_loop().create_future()
        self._wake.set()
        await asyncio.shield(self._updated)

    def leader_id(self, topic_partition: TopicPartition) -> int:
        """The leader's node id; -1 when there is none, or it is not known."""
        view = self.topics.get(topic_partition.topic)
        if view is None or topic_partition.partition >= view.partition_count:
            return -1
        return view.leader_ids[topic_partition.partition]

    async def topic(self, name: str, timeout_ms: float) -> TopicView:
        """The topic, asked for until it is known; raises ClientError when it is refused or the time is over."""
        view = self.topics.get(name)
        if view is not None:
            return view
        self.want((name,))
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while True:
                    await self.updated()
                    view = self.topics.get(name)
                    if view is not None:
                        return view
                    error = self.errors.get(name)
                    if error is not None and not error.retriable:
                        raise error
        except TimeoutError:
            raise self._timed_out(name, timeout_ms) from (self.errors.get(name) or self.last_error)

    def _timed_out(self, name: str, timeout_ms: float) -> ClientError:
        error = self.errors.get(name) or self.last_error
        if error is None:
            message = f"the cluster did not say within {timeout_ms:.0f} ms where the topic is"
            return ClientError(ErrorCode.REQUEST_TIMED_OUT, message, topic=name)
        message = f"not known after {timeout_ms:.0f} ms: {error.message or error.code.name}"
        return ClientError(error.code, message, topic=name)

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            self.last_error = await self._update()
            waiting, self._updated = self._updated, None
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            for listener in self._listeners:
                listener()
            # What is missing may appear, so it is asked for again; in no tight loop, however often somebody asks.
            incomplete = self.last_error is not None or any(error.retriable for error in self.errors.values())
            failures = failures + 1 if incomplete else 0
            if incomplete or self._wake.is_set():
                await asyncio.sleep(self._backoff.delay_ms(max(failures, 1)) / 1000)
                continue
            try:
                async with asyncio.timeout(self._config.metadata_max_age_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _update(self) -> ClientError | None:
        wanted = list(self._wanted)
        if self._is_old:
            self._is_old = False
            self._transport.ask_elsewhere()
        try:
            await self._transport.describe_cluster()
            if not wanted:
                return None
            descriptions, errors = await self._transport.describe_topics(
                wanted, allow_auto_create=self._allow_auto_create
            )
        except ClientError as error:
            logger.warning("metadata is not to be had: %s", error)
            return error
        for name, refusal in errors.items():
            if name not in self.errors:
                logger.warning("%s", refusal)
            self.topics.pop(name, None)
        self.errors = errors
        for description in descriptions:
            self.topics[description.name] = view_of(description)
        return None


def view_of(description: TopicDescription) -> TopicView:
    """The leaders of a topic by partition index."""
    by_index = {partition.partition: partition for partition in description.partitions}
    leaders = tuple(by_index[index].leader_id if index in by_index else -1 for index in range(len(by_index)))
    epochs = tuple(by_index[index].leader_epoch if index in by_index else -1 for index in range(len(by_index)))
    available = tuple(index for index, leader in enumerate(leaders) if leader >= 0) or tuple(range(len(leaders)))
    return TopicView(len(leaders), leaders, epochs, available)
