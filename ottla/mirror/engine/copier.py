"""What copiers of one partition have in common, exact or not: the loop, reading ahead, and what is told of them."""

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ottla.client.backoff import JITTER
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import TopicPartition
from ottla.core.errors import CorruptBatch
from ottla.mirror.config import FlowConfig
from ottla.mirror.core.advice import told
from ottla.mirror.core.outage import Waiting
from ottla.mirror.core.partition_task import Effect, Fetch, Lost, PartitionTask, Pause, State, Stop
from ottla.mirror.core.provenance import Origins
from ottla.mirror.core.runs import Run
from ottla.mirror.engine.bookkeeping import QUIET_TRIES, Bookkeeping
from ottla.mirror.engine.reading import Fetched, SourceReader
from ottla.mirror.engine.side import Side
from ottla.mirror.engine.throttle import Throttle
from ottla.mirror.engine.turns import Turns

logger = logging.getLogger("ottla.mirror")

_GONE: Final = frozenset(
    {ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.INCONSISTENT_TOPIC_ID}
)


@dataclass(slots=True)
class Figures:
    """What a partition did since this process took it over."""

    records: int = 0
    bytes: int = 0
    transactions: int = 0
    left_out: int = 0  # batches: markers, aborted ones, loops
    dead_letters: int = 0
    last_timestamp_ms: int = -1  # of the youngest record that was copied
    committed_at_ms: int = -1


class Flow(NamedTuple):
    """What the partitions of one flow share in a process."""

    config: FlowConfig
    source: Side
    target: Side
    reader: SourceReader
    books: Bookkeeping  # of the target
    source_books: Bookkeeping
    origins: Origins | None  # None: names keep loops out
    throttle: Throttle
    turns: Turns
    progress_partitions: int
    request_discovery: Callable[[], None]
    on_copied: Callable[[TopicPartition, TopicPartition, Sequence[Run]], None]


class Again(Exception):
    """Nothing of this round is committed; the next one, from the same position, will be another."""


class PartitionCopier(ABC):
    """Copies one partition until it is cancelled or its task has stopped; what goes wrong, the task decides on."""

    def __init__(self, flow: Flow, task: PartitionTask, source: TopicPartition, target: TopicPartition) -> None:
        self.flow = flow
        self.task = task
        self.source, self.target = source, target
        self.figures = Figures()
        self._position = 0
        self._ahead: asyncio.Task[Fetched] | None = None
        self._asked = flow.source  # the side that an error comes from
        self._said = ""  # the error that the log was told of last
        self._waiting = Waiting(flow.config.name, source)

    @property
    def last_stable_offset(self) -> int:
        """Of the source, as last seen; -1: not yet."""
        return self.flow.reader.ends.get(self.source, (-1, -1))[0]

    @property
    def behind(self) -> int:
        """Offsets of the source that are not decided yet, as far as it was last seen."""
        return max(0, self.last_stable_offset - self._position) if self.task.state is not State.NEW else 0

    def behind_s(self, now: float) -> float:
        """For how long (`now`: seconds since 1970): the age of the youngest copy while there are later records."""
        if not self.behind or self.figures.last_timestamp_ms < 0:
            return 0.0
        return max(0.0, now - self.figures.last_timestamp_ms / 1000)

    async def run(self) -> None:
        """Returns when the task has stopped."""
        try:
            while self.task.state is not State.STOPPED:
                try:
                    if self.task.state is not State.COPYING:
                        await self._begin()
                        self.flow.target.outages.well(self._waiting)
                    while self.task.state is State.COPYING:
                        await self._round()
                        self.flow.target.outages.well(self._waiting)
                except Again as reason:
                    logger.debug("%s: %s", self, reason)
                    self._drop()
                except (ClientError, CorruptBatch) as error:
                    self._drop()
                    await self._trouble(error)
        finally:
            self._drop()
            for side in (self.flow.source, self.flow.target):
                side.outages.forget(self._waiting)

    @abstractmethod
    async def _begin(self) -> None:
        """Find out where to go on, and whether that is possible. ClientError."""

    @abstractmethod
    async def _round(self) -> None:
        """Copy what comes next. ClientError, CorruptBatch, Again."""

    @abstractmethod
    async def _trouble(self, error: ClientError | CorruptBatch) -> None:
        """A round, or the beginning, went wrong."""

    async def _failed(self, error: ClientError | CorruptBatch) -> None:
        """What may get better by itself: wait, as the task says."""
        task = self.task
        code = error.code if isinstance(error, ClientError) else ErrorCode.CORRUPT_MESSAGE
        if code in _GONE:
            self.flow.request_discovery()
        for effect in task.failed(told(self._asked.alias, error, code)):
            if isinstance(effect, Pause):
                is_said = self._asked.outages.failed(self._waiting, error)
                if task.tries == 1:
                    self._said = ""
                if not is_said and task.tries >= QUIET_TRIES and self._said != task.last_error:
                    self._said = task.last_error  # once, however often it is tried; `status` has it meanwhile
                    logger.warning("%s: %s", self, task.last_error)
                await self._refresh()
                await self._asked.outages.pause(effect.delay_ms / 1000 * random.uniform(1 - JITTER, 1 + JITTER))
            else:
                self._carry_out([effect])

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Fetch(offset):
                    self._position = offset
                case Lost(first, end):
                    logger.error("%s: the source lost offsets %d to %d before they were copied", self, first, end - 1)
                case Stop(reason):
                    logger.error("%s: stopped: %s", self, reason)
                case _:
                    pass

    async def _refresh(self) -> None:
        for side in (self.flow.source, self.flow.target):
            try:
                await side.refresh()
            except ClientError as error:
                logger.debug("%s: %s", side.alias, error)

    def _drop(self) -> None:
        """Forget what was read ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        if not ahead.done():
            ahead.cancel()
        elif not ahead.cancelled() and ahead.exception() is None:
            self.flow.reader.release(len(ahead.result().data))

    # -- reading ahead

    async def _read(self) -> Fetched:
        self._asked = self.flow.source
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return await self._reading(self._position)
        try:
            return await ahead
        except asyncio.CancelledError:
            self._ahead = ahead
            raise

    def _read_ahead(self, position: int, got_bytes: int = 0) -> None:
        """Ask for what follows `position`; `got_bytes`: what came before it."""
        self._ahead = asyncio.create_task(self._reading(position, got_bytes), name="ottla-mirror-ahead")
        self._ahead.add_done_callback(_seen)

    async def _reading(self, position: int, got_bytes: int = 0) -> Fetched:
        reader = self.flow.reader
        return await reader.read(
            self.source,
            self.task.map_id.source_topic_id,
            position,
            is_far_behind=got_bytes >= reader.much_bytes,
            on_nothing=lambda: self._at_end(position),
        )

    def _at_end(self, position: int) -> None:
        """Nothing follows `position`; what was read ahead of may not be copied yet."""
        if self.task.last_error and self.task.state is State.COPYING and position == self._position:
            self.task.at_end()

    def __str__(self) -> str:
        return f"{self.flow.config.name} {self.source.topic}-{self.source.partition}"


def _seen(task: "asyncio.Task[Fetched]") -> None:
    if not task.cancelled():
        task.exception()
