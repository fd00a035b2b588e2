"""One partition being copied: fetch, transaction, again; what goes wrong goes to its `PartitionTask`, which decides."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP
from ottla.client.types import TopicPartition
from ottla.core.errors import CorruptBatch
from ottla.mirror.core.partition_task import (
    DeadLetter,
    Effect,
    PartitionTask,
    SourceLog,
    StartedOver,
    State,
)
from ottla.mirror.core.plan import Action, LedgerTooShort, Step, plan_batches
from ottla.mirror.core.progress import (
    PROGRESS_TOPIC,
    CopiedPartition,
    MapId,
    encode_key,
    progress_partition,
)
from ottla.mirror.core.runs import Run
from ottla.mirror.engine.copier import Again, Flow, PartitionCopier
from ottla.mirror.engine.outgoing import Outgoing, outgoing
from ottla.mirror.engine.reading import Fetched
from ottla.mirror.engine.turns import Turn
from ottla.mirror.engine.writing import BatchRefused, TransactionWriter
from ottla.records.batch import Record, encode_batch, iterate_headers
from ottla.records.varint import INT64_MAX

logger = logging.getLogger("ottla.mirror")

# The copy of a record that is refused with one of these is too large for the target.
_TOO_LARGE: Final = frozenset({ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE})
_NOWHERE: Final = range(0)
_LEAVING_S: Final = 2.0


class Copier(PartitionCopier):
    """Copies committed records, in transactions that write progress beside them."""

    def __init__(self, flow: Flow, task: PartitionTask, source: TopicPartition, target: TopicPartition) -> None:
        super().__init__(flow, task, source, target)
        self._writer = TransactionWriter(flow.target, transactional_id(task.map_id))
        self._progress = TopicPartition(PROGRESS_TOPIC, progress_partition(task.map_id, flow.progress_partitions))
        self._single = _NOWHERE  # source offsets of records that go one by one
        self._dead: set[int] = set()  # source offsets of those that the target refuses
        self._end: int | None = None  # the next transaction ends before this source offset
        self._is_unsure = False  # whether the last transaction is committed

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self._is_unsure:
                await self._end_transaction()

    async def _end_transaction(self) -> None:
        """Until it is ended or times out, nobody reads what lies behind it."""
        try:
            async with asyncio.timeout(_LEAVING_S):
                await self._writer.fence()
        except (ClientError, TimeoutError) as error:
            logger.debug("%s: a transaction stays open until it times out: %s", self, error)

    # -- where to begin, and what to do when it fails

    async def _begin(self) -> None:
        if self._is_unsure:
            await self._fence()
        own = self.flow.books.ledger.get(self.task.map_id)
        position = None if own is None else own.map.position
        if position is None:
            log = await self._source_log()
        else:
            log = SourceLog(0, position)  # the source itself says when that is out of range
        self._carry_out(self.task.begin(self._copies(), log))
        if position is None and self.flow.config.start == "latest" and self.task.state is State.COPYING:
            await self._transaction([], self._position)  # so that it begins here also after a restart

    def _copies(self) -> list[CopiedPartition]:
        partition, names = self.source.partition, (self.source.topic, self.target.topic)
        return [
            copy
            for copy in self.flow.books.ledger
            if copy.map_id.partition == partition and (copy.source_topic, copy.target_topic) == names
        ]

    async def _source_log(self) -> SourceLog:
        self._asked = self.flow.source
        start, end = await asyncio.gather(
            self.flow.source.offset_at(self.source, EARLIEST_TIMESTAMP, read_committed=True),
            self.flow.source.offset_at(self.source, LATEST_TIMESTAMP, read_committed=True),
        )
        return SourceLog(start, end)

    def _carry_out(self, effects: list[Effect]) -> None:
        super()._carry_out(effects)
        for effect in effects:
            match effect:
                case StartedOver(reason):
                    logger.warning("%s: starts over: %s", self, reason)
                case DeadLetter(offset):
                    logger.warning("%s: the record at offset %d goes to the dead letters", self, offset)
                    self._dead.add(offset)
                case _:
                    pass

    async def _trouble(self, error: ClientError | CorruptBatch) -> None:
        task = self.task
        code = error.code if isinstance(error, ClientError) else ErrorCode.CORRUPT_MESSAGE
        if code is ErrorCode.OFFSET_OUT_OF_RANGE and task.state is State.COPYING:
            try:
                self._carry_out(task.out_of_range(await self._source_log()))
            except ClientError as another:
                error = another
            else:
                return
        await self._failed(error)

    # -- one round

    async def _round(self) -> None:
        began_at = time.monotonic()
        fetched = await self._read()
        try:
            if self._end is None:
                self._read_on(fetched)
            steps = await self._plan(fetched)
            if not steps:
                return
            async with self.flow.turns.turn(len(fetched.data)) as turn:
                items = list(outgoing(fetched.data, steps, self._position, self._single))
                position = steps[-1].next_offset
                if self._end is not None:
                    position, self._end = self._end, None
                    items = [item for item in items if item.spans[0][0] < position]
                await self._transaction(items, position, turn)
            self._count(steps, items)
        finally:
            self.flow.reader.release(len(fetched.data))
        await self.flow.throttle.took(len(fetched.data))
        if position >= fetched.last_stable_offset:
            # Fewer, larger transactions while the copy is up to date; the first after a silence goes at once.
            pause = self.flow.config.transaction_interval_ms / 1000 - (time.monotonic() - began_at)
            if pause > 0:
                await asyncio.sleep(pause)

    def _read_on(self, fetched: Fetched) -> None:
        """Ask for what follows, where there is something, before anything is done with this."""
        position = self._position
        for _, header in iterate_headers(fetched.data, allow_partial=True):
            position = header.next_offset
        if self._position < position < fetched.last_stable_offset:
            self._read_ahead(position, len(fetched.data))

    async def _plan(self, fetched: Fetched) -> list[Step]:
        origins, map_id = self.flow.origins, self.task.map_id
        path_of = None
        if origins is not None:
            path_of = lambda header: origins.path_of(  # noqa: E731
                map_id.source_topic_id, map_id.partition, header
            )
        while True:
            try:
                return list(
                    plan_batches(
                        fetched.data,
                        self._position,
                        fetched.aborted,
                        path_of=path_of,
                        target_cluster_id=self.flow.target.cluster_id,
                    )
                )
            except LedgerTooShort as short:
                assert origins is not None
                await self.flow.source_books.catch_up()
                origins.settled_path_of(map_id.source_topic_id, map_id.partition, short.header)

    async def _transaction(self, items: list[Outgoing], position: int, turn: Turn | None = None) -> None:
        """Copies and progress in one transaction; the turn is over when the copies are written."""
        self._asked = self.flow.target
        map_id, ledger = self.task.map_id, self.flow.books.ledger
        if not self._writer.is_fenced:
            await self._fence()
            own = ledger.get(map_id)
            if own is not None and own.map.position not in (None, self._position):
                raise ClientError(ErrorCode.PRODUCER_FENCED, "another mirror has gone on from here")
        copied = ledger.get(map_id)
        if copied is None:
            copied = CopiedPartition(map_id, self.flow.config.source, self.source.topic, self.target.topic)
        self._is_unsure = True
        try:
            runs = await self._write(items, copied)
            if turn is not None:
                turn.end()
            chunks = copied.map.plan(runs, position)
            written: list[tuple[bytes, bytes | None]] = [one.encode() for one in copied.records(chunks)]
            if len(chunks) > 1:  # now and then, as chunks fill up
                written += [(encode_key(map_id, number), None) for number in await self._outlived(copied)]
            now_ms = int(time.time() * 1000)
            progress = encode_batch([Record(timestamp=now_ms, key=key, value=value) for key, value in written])
            await self._writer.write(self._progress, self._progress_id(), [progress])
            await self._writer.commit()
        except BaseException:
            self._writer.give_up()
            raise
        self._is_unsure = False
        for key, value in written:
            ledger.replay(key, value)
        self.task.copied(position)
        self._position = position
        if position >= self._single.stop:
            self._single = _NOWHERE
        self.figures.transactions += 1
        self.figures.committed_at_ms = now_ms
        if runs:
            self.flow.on_copied(self.source, self.target, runs)

    async def _outlived(self, copied: CopiedPartition) -> list[int]:
        """Chunks of the map of which neither side has records any more."""
        source_start = self.flow.reader.ends.get(self.source, (-1, -1))[1]
        if not copied.map.trim(source_start, INT64_MAX):
            return []
        target_start = await self.flow.target.offset_at(self.target, EARLIEST_TIMESTAMP, read_committed=True)
        return copied.map.trim(source_start, target_start)

    async def _write(self, items: list[Outgoing], copied: CopiedPartition) -> list[Run]:
        dead = [item for item in items if item.spans[0][0] in self._dead] if self._dead else []
        alive = [item for item in items if item.spans[0][0] not in self._dead] if dead else items
        try:
            offsets = await self._writer.write(
                self.target, self.task.map_id.target_topic_id, [item.batch for item in alive]
            )
        except BatchRefused as refused:
            if refused.code not in _TOO_LARGE:
                raise
            self._on_too_large(alive[refused.number], items[0])
            raise Again(str(refused)) from refused
        for item in dead:
            await self._write_dead_letter(item)
        return list(_runs(alive, offsets, copied))

    def _on_too_large(self, item: Outgoing, first_item: Outgoing) -> None:
        first, last = item.spans[0][0], sum(item.spans[-1])
        if item.count > 1:  # perhaps only together
            self._single = range(first, last)
        elif item is not first_item:  # what is before it is copied in any case
            self._end = first
        else:
            self._carry_out(self.task.too_large(first, len(item.batch)))

    async def _write_dead_letter(self, item: Outgoing) -> None:
        topic = self.flow.config.dead_letters_of(self.source.topic)
        topic_id = self.flow.target.topic_id(topic)
        if topic_id is None:
            raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "make the topic of the dead letters", topic=topic)
        await self._writer.write(TopicPartition(topic, 0), topic_id, [item.batch])
        self.figures.dead_letters += 1

    def _progress_id(self) -> str:
        topic_id = self.flow.target.topic_id(PROGRESS_TOPIC)
        if topic_id is None:
            raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the progress topic is gone", topic=PROGRESS_TOPIC)
        return topic_id

    async def _fence(self) -> None:
        """Be the one that writes, and know what is committed."""
        self._asked = self.flow.target
        await self._writer.fence()
        await self.flow.books.catch_up({self._progress.partition: None})
        self._is_unsure = False

    def _count(self, steps: list[Step], items: list[Outgoing]) -> None:
        figures = self.figures
        figures.records += sum(item.count for item in items)
        figures.bytes += sum(len(item.batch) for item in items)
        for step in steps:
            if step.action is Action.LEAVE_OUT:
                figures.left_out += 1
            else:
                figures.last_timestamp_ms = max(figures.last_timestamp_ms, step.header.max_timestamp)


def transactional_id(map_id: MapId) -> str:
    """Under which a partition is copied, whoever does it: so the last who begins fences those before."""
    return (
        f"ottla-mirror-{map_id.source_cluster_id}-{map_id.source_topic_id}-{map_id.target_topic_id}-{map_id.partition}"
    )


def _runs(items: Sequence[Outgoing], offsets: Sequence[int], copied: CopiedPartition) -> Iterator[Run]:
    for item, offset in zip(items, offsets, strict=True):
        path = copied.paths.index(item.path)
        for source, count in item.spans:
            yield Run(source, offset, count, path)
            offset += count
