"""Fetch: reads batches, at once when there are enough of them, otherwise when they arrive or the client's time is over.

No task or future exists for a request. A request that waits is called by its partitions when one of their ends moves;
those that were called in one turn of the loop are looked at together in the next. Sources: KIP-74 (limits; the first
batch is always returned), KIP-227 (sessions), KIP-320 (epochs), KIP-392 (followers answer consumers).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from ottla.broker.deadlines import Bucket, Deadlines
from ottla.broker.fetch_messages import FetchedPartition, FetchPartition, FetchRequest, FetchResponse
from ottla.broker.fetch_sessions import FetchContext, FetchSessions
from ottla.broker.replicas import Replicas
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock
from ottla.core.types import NodeId
from ottla.partitions.partition import Partition
from ottla.partitions.results import Isolation, ReadResult, State
from ottla.records.compression import Compression

DEFAULT_MAX_BYTES: Final = 57_671_680  # fetch.max.bytes

FetchDone = Callable[[FetchResponse], None]
SelectReplica = Callable[[Partition, str, int], NodeId | None]
"""Which other replica a client in that rack should read that offset from; None: this one."""


class Fetch:
    """The Fetch requests of one broker, for both doors. `max_bytes`: the broker config `fetch.max.bytes`."""

    def __init__(
        self,
        replicas: Replicas,
        sessions: FetchSessions,
        deadlines: Deadlines,
        clock: Clock,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.replicas = replicas
        self.sessions = sessions
        self.deadlines = deadlines
        self.max_bytes = max_bytes
        self.select_replica: SelectReplica | None = None  # replica.selector.class
        self._clock = clock
        self._woken: list[WaitingFetch] = []

    def __call__(self, request: FetchRequest, done: FetchDone) -> "WaitingFetch | None":
        """Answer by `done`, once; perhaps before this returns. What is returned while it waits can be cancelled."""
        try:
            context = self.sessions.open(request)
        except ApiError as error:
            done(FetchResponse([], error=error.code, session_id=request.session_id))
            return None
        waiting = WaitingFetch(self, request, context, done)
        waiting.start()
        return None if waiting.finished else waiting

    def wake(self, waiting: "WaitingFetch") -> None:
        """Look at the request again in the next turn of the loop."""
        if not self._woken:
            self._clock.call_soon(self._look_again)
        self._woken.append(waiting)

    def _look_again(self) -> None:
        woken, self._woken = self._woken, []
        for waiting in woken:
            waiting.look_again()


class WaitingFetch:
    """One request until it is answered. Reads its partitions one after the other, as their order and limits ask."""

    __slots__ = (
        "_broker",
        "_bucket",
        "_context",
        "_done",
        "_due",
        "_fetched",
        "_left_bytes",
        "_next",
        "_reading",
        "_request",
        "_restless",
        "_size",
        "_urgent",
        "_waited",
        "_watched",
        "finished",
    )

    def __init__(self, broker: Fetch, request: FetchRequest, context: FetchContext, done: FetchDone) -> None:
        self._broker = broker
        self._request = request
        self._context = context
        self._done = done
        self._bucket: Bucket | None = None
        self._watched: list[Partition] = []
        self._due = request.max_wait_ms <= 0 or not context.partitions
        self._reading = False
        self._restless = False  # an end moved while a cold read was under way
        self._waited = False
        self.finished = False

    def start(self) -> None:
        """Read all partitions from the first on."""
        self._fetched: list[FetchedPartition] = []
        self._left_bytes = min(self._request.max_bytes, self._broker.max_bytes)
        self._size = 0
        self._next = 0
        self._urgent = False
        self._restless = False
        self._reading = True
        self._continue()

    def look_again(self) -> None:
        """An end moved since the last look."""
        self._restless = False
        if not self.finished and not self._reading:
            self.start()

    def expire(self) -> None:
        """The client's time is over: answer with what there is."""
        self._bucket = None
        self._due = True
        if not self._reading:
            self.start()

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.finished = True
        self._leave()

    def _moved(self) -> None:
        if not self._restless:
            self._restless = True
            if not self._reading:
                self._broker.wake(self)

    # -- one look at all partitions

    def _continue(self) -> None:
        partitions = self._context.partitions
        while self._next < len(partitions):
            wanted = partitions[self._next]
            self._next += 1
            fetched = FetchedPartition(wanted.topic, wanted.index)
            self._fetched.append(fetched)
            try:
                if not self._read(wanted, fetched):
                    return
            except ApiError as error:
                self._refuse(fetched, error.code)
        self._reading = False
        self._conclude()

    def _read(self, wanted: FetchPartition, fetched: FetchedPartition) -> bool:
        """Fill `fetched`; False when the bytes come later. Raises ApiError."""
        replicas = self._broker.replicas
        request = self._request
        find = replicas.fenced_leader if request.rack is None else replicas.readable
        partition = find(wanted.topic, wanted.index, wanted.current_leader_epoch)
        if not request.allows_zstd and partition.config.compression is Compression.ZSTD:
            raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
        isolation = request.isolation
        offset = wanted.fetch_offset
        high_watermark = partition.high_watermark
        end = partition.last_stable_offset if isolation is Isolation.READ_COMMITTED else high_watermark
        if request.rack and self._broker.select_replica is not None and self._refer(partition, wanted, fetched):
            return True
        limit = min(wanted.max_bytes, self._left_bytes)
        at_end = end <= offset <= partition.log_end_offset and partition.log_start_offset <= offset
        if (at_end or (limit <= 0 and self._size)) and partition.state is State.ONLINE:
            self._fill_offsets(partition, fetched)
            return True
        result = partition.read(
            offset,
            max(limit, 0),
            isolation=isolation,
            minimum_one_batch=not self._size,
            done=partial(self._read_later, fetched),
        )
        if result is None:
            return False
        self._fill(fetched, result)
        return True

    def _refer(self, partition: Partition, wanted: FetchPartition, fetched: FetchedPartition) -> bool:
        """Send the consumer to a replica that is nearer, if there is one: it gets no records here then."""
        select, rack = self._broker.select_replica, self._request.rack
        assert select is not None
        assert rack is not None
        nearer = select(partition, rack, wanted.fetch_offset)
        if nearer is None:
            return False
        fetched.preferred_replica = nearer
        self._fill_offsets(partition, fetched)
        self._urgent = True
        return True

    def _fill_offsets(self, partition: Partition, fetched: FetchedPartition) -> None:
        """There is nothing to read."""
        fetched.high_watermark = partition.high_watermark
        fetched.last_stable_offset = partition.last_stable_offset
        fetched.log_start_offset = partition.log_start_offset
        fetched.aborted = [] if self._request.isolation is Isolation.READ_COMMITTED else None

    def _read_later(self, fetched: FetchedPartition, result: ReadResult | ApiError) -> None:
        if self.finished:
            return
        if isinstance(result, ApiError):
            self._refuse(fetched, result.code)
        else:
            self._fill(fetched, result)
        self._continue()

    def _fill(self, fetched: FetchedPartition, result: ReadResult) -> None:
        fetched.buffers = result.buffers
        fetched.size = result.size
        fetched.high_watermark = result.high_watermark
        fetched.last_stable_offset = result.last_stable_offset
        fetched.log_start_offset = result.log_start_offset
        if self._request.isolation is Isolation.READ_COMMITTED:
            fetched.aborted = result.aborted
        self._size += result.size
        self._left_bytes -= result.size

    def _refuse(self, fetched: FetchedPartition, code: ErrorCode) -> None:
        fetched.error = code
        self._urgent = True

    # -- answer or wait

    def _conclude(self) -> None:
        if self._due or self._urgent or self._size >= self._request.min_bytes:
            self._answer()
        elif not self._waited:
            self._wait()
        elif self._restless:
            self._broker.wake(self)

    def _wait(self) -> None:
        """Be called when an end moves. What moved during a cold read was not noticed: look once more in that case."""
        self._waited = True
        self._bucket = self._broker.deadlines.enter(self, self._request.max_wait_ms)
        replicas = self._broker.replicas
        find = replicas.fenced_leader if self._request.rack is None else replicas.readable
        moved = False
        for wanted, fetched in zip(self._context.partitions, self._fetched, strict=True):
            try:
                partition = find(wanted.topic, wanted.index, wanted.current_leader_epoch)
            except ApiError:
                moved = True  # lost during a cold read
                continue
            partition.add_watcher(self._moved)
            self._watched.append(partition)
            moved = moved or fetched.high_watermark != partition.high_watermark
        if moved:
            self._moved()

    def _answer(self) -> None:
        self.finished = True
        self._leave()
        self._done(self._context.respond(self._fetched))

    def _leave(self) -> None:
        if self._bucket is not None:
            self._bucket.pop(self, None)
            self._bucket = None
        for partition in self._watched:
            partition.remove_watcher(self._moved)
        self._watched.clear()
