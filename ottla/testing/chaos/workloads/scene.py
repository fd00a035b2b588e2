"""What the actors of one process share: the library, the names, the record of what they did, and when to stop.

A run has three phases. While *busy* everything works. Then sources are told to be *calm*: they write no more. At last,
when consumers have come to the end, all *finish*.
"""

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from ottla.testing.chaos.clients.port import At, Consumer, Failure, Library, Producer, Read, Remedy
from ottla.testing.history import (
    Assigned,
    Begin,
    Commit,
    End,
    Operation,
    Outcome,
    Poll,
    Recorder,
    Revoked,
    Seek,
    Seen,
    Send,
    Snapshot,
    TopicPartition,
    Writers,
    Written,
    now_ns,
)
from ottla.testing.history import At as Offset

RETRY_S = 0.2  # before a client that failed is made anew


@dataclass(slots=True)
class Scene:
    """One process's. `role`: its name in the run; who comes after a killed one has the same."""

    library: Library
    recorder: Recorder
    prefix: str
    role: str
    random: Random
    calm: asyncio.Event = field(default_factory=asyncio.Event)
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: "count[int]" = field(default_factory=count)

    def topic(self, name: str) -> str:
        """The name of a workload's topic, or group, in this run."""
        return f"{self.prefix}{name}"

    def new_log(self, what: str) -> "Log":
        """For a client that begins its life."""
        return Log(self.recorder, f"{what}.{self.role}.{os.getpid()}.{next(self._numbers)}")

    async def pause(self, seconds: float, until: asyncio.Event) -> bool:
        """Wait; whether that moment has come meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await until.wait()
        except TimeoutError:
            return False
        return True


class Log:
    """Writes down what one client does, for its whole life."""

    def __init__(self, recorder: Recorder, process: str) -> None:
        self._recorder = recorder
        self.process = process
        self._values = count()
        self._sending = asyncio.Lock()

    def value(self) -> str:
        """One that nobody else writes."""
        return f"{self.process}-{next(self._values)}"

    async def send(
        self,
        producer: Producer,
        at: At,
        value: str | None,
        key: str | None = None,
        *,
        transaction: str | None = None,
        source: Offset | None = None,
    ) -> "asyncio.Future[int]":
        """Send and record; the future is the library's. Raises Failure when the record was not accepted.

        One after the other: of those that wait for a partition's metadata beside each other no client tells which one
        it lets go first, and the record says in which order they were sent.
        """
        async with self._sending:
            return await self._send(producer, at, value, key, transaction, source)

    async def _send(
        self,
        producer: Producer,
        at: At,
        value: str | None,
        key: str | None,
        transaction: str | None,
        source: Offset | None,
    ) -> "asyncio.Future[int]":
        begun = Send(
            process=self.process,
            invoked_ns=now_ns(),
            topic=at.topic,
            partition=at.partition,
            value=value,
            key=key,
            transaction=transaction,
            source=source,
        )
        number = self._recorder.begin(begun)
        try:
            told = await producer.send(at, value, key)
        except Failure as error:
            self._recorder.end(number, _failed(begun, error, _is_gone(error)))
            raise

        def done(future: "asyncio.Future[int]") -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                sent = replace(begun, completed_ns=now_ns(), outcome=Outcome.OK, offset=future.result())
                self._recorder.end(number, sent)
            elif isinstance(error, Failure):
                self._recorder.end(number, _failed(begun, error, _is_gone(error)))
            else:
                raise error

        told.add_done_callback(done)
        return told

    def polled(
        self,
        invoked_ns: int,
        records: Iterable[Seen],
        *,
        committed: bool,
        transaction: str | None = None,
    ) -> None:
        """A poll gave these."""
        self._recorder.add(
            Poll(
                process=self.process,
                invoked_ns=invoked_ns,
                completed_ns=now_ns(),
                outcome=Outcome.OK,
                records=tuple(records),
                committed=committed,
                transaction=transaction,
            )
        )

    def writers(self, invoked_ns: int, topic: str, partition: int, written: Iterable[Written]) -> None:
        """Which producers wrote what a replica holds."""
        self._recorder.add(
            Writers(
                process=self.process,
                invoked_ns=invoked_ns,
                completed_ns=now_ns(),
                outcome=Outcome.OK,
                topic=topic,
                partition=partition,
                written=tuple(written),
            )
        )

    def takes(self, partitions: Collection[At]) -> None:
        """A consumer without a group begins at the beginning of these."""
        now = now_ns()
        self._recorder.add(
            Assigned(
                process=self.process,
                invoked_ns=now,
                completed_ns=now,
                outcome=Outcome.OK,
                partitions=tuple(TopicPartition(*at) for at in partitions),
                starts=tuple(Offset(*at, 0) for at in partitions),
            )
        )

    def begin(self, transaction: str, transactional_id: str) -> None:
        """A transaction has begun at the client."""
        now = now_ns()
        self._recorder.add(
            Begin(
                process=self.process,
                invoked_ns=now,
                completed_ns=now,
                outcome=Outcome.OK,
                transaction=transaction,
                transactional_id=transactional_id,
            )
        )

    async def send_offsets(
        self, producer: Producer, offsets: Mapping[At, int], consumer: Consumer, group: str, transaction: str
    ) -> None:
        """As the producer's."""
        begun = Commit(
            process=self.process,
            invoked_ns=now_ns(),
            group=group,
            offsets=_offsets(offsets),
            transaction=transaction,
        )
        number = self._recorder.begin(begun)
        try:
            await producer.send_offsets(offsets, consumer)
        except Failure as error:
            self._recorder.end(number, _failed(begun, error))
            raise
        self._recorder.end(number, replace(begun, completed_ns=now_ns(), outcome=Outcome.OK))

    async def end(self, producer: Producer, transaction: str, *, commit: bool) -> None:
        """Commit or abort; what is not known to have ended is asked for again a few times."""
        begun = End(process=self.process, invoked_ns=now_ns(), transaction=transaction, commit=commit)
        number = self._recorder.begin(begun)
        attempts = 3
        while True:
            attempts -= 1
            try:
                await (producer.commit() if commit else producer.abort())
            except Failure as error:
                if error.remedy is Remedy.RETRY and attempts:
                    continue
                self._recorder.end(number, _failed(begun, error))
                raise
            self._recorder.end(number, replace(begun, completed_ns=now_ns(), outcome=Outcome.OK))
            return

    async def commit(self, consumer: Consumer, group: str, offsets: Mapping[At, int]) -> None:
        """As the consumer's; a failure is recorded and told to nobody: the records come again."""
        begun = Commit(process=self.process, invoked_ns=now_ns(), group=group, offsets=_offsets(offsets))
        number = self._recorder.begin(begun)
        try:
            await consumer.commit(offsets)
        except Failure as error:
            self._recorder.end(number, _failed(begun, error))
        else:
            self._recorder.end(number, replace(begun, completed_ns=now_ns(), outcome=Outcome.OK))

    def seek(self, consumer: Consumer, to: Mapping[At, int]) -> None:
        """Go back to these offsets, where the partitions are still its own."""
        now = now_ns()
        for at, offset in to.items():
            consumer.seek(at, offset)
        self._recorder.add(
            Seek(process=self.process, invoked_ns=now, completed_ns=now, outcome=Outcome.OK, to=_offsets(to))
        )

    def snapshot(self, invoked_ns: int, topic: str, entries: Mapping[str, str]) -> None:
        """The whole topic was read as a table."""
        self._recorder.add(
            Snapshot(
                process=self.process,
                invoked_ns=invoked_ns,
                completed_ns=now_ns(),
                outcome=Outcome.OK,
                topic=topic,
                entries=tuple(sorted(entries.items())),
            )
        )


class Member:
    """Records what a group gives a consumer; see `port.Listener`."""

    def __init__(self, log: Log, recorder: Recorder, group: str) -> None:
        self._log, self._recorder, self._group = log, recorder, group

    def assigned(self, partitions: Collection[At], generation: int, member: str) -> None:
        now = now_ns()
        self._recorder.add(
            Assigned(
                process=self._log.process,
                invoked_ns=now,
                completed_ns=now,
                outcome=Outcome.OK,
                partitions=tuple(TopicPartition(*at) for at in partitions),
                group=self._group,
                generation=generation,
                member=member,
            )
        )

    def revoked(self, partitions: Collection[At], generation: int, member: str, *, lost: bool) -> None:
        now = now_ns()
        self._recorder.add(
            Revoked(
                process=self._log.process,
                invoked_ns=now,
                completed_ns=now,
                outcome=Outcome.OK,
                partitions=tuple(TopicPartition(*at) for at in partitions),
                group=self._group,
                generation=generation,
                member=member,
                lost=lost,
            )
        )


def plain(records: Sequence[Read]) -> list[Seen]:
    """Records that belong to no transaction, as they are recorded."""
    return [Seen(one.topic, one.partition, one.offset, one.value, one.key) for one in records]


def _offsets(offsets: Mapping[At, int]) -> tuple[Offset, ...]:
    return tuple(Offset(*at, offset) for at, offset in offsets.items())


def _failed(begun: Operation, error: Failure, is_known: bool | None = None) -> Operation:
    known = error.is_known if is_known is None else is_known
    outcome = Outcome.FAILED if known else Outcome.UNKNOWN
    return replace(begun, completed_ns=now_ns(), outcome=outcome, error=str(error))


def _is_gone(error: Failure) -> bool:
    """Whether a record will never be seen. Those of a transaction that must abort may stand in the log all the same."""
    return error.is_known and error.remedy is not Remedy.ABORT
