"""Reading a source: many partitions in few requests, several requests in flight, bounded by bytes.

A partition whose last read found nothing for a while is *quiet*: quiet ones wait together in one long poll, so that a
thousand idle topics cost next to nothing and hold up nobody. The others are asked for at once, those that want at the
same moment in one request. Who is *far behind*, with much to read, has a request of its own: in a common one all would
wait for the last byte of the last, then be worked off together while nothing is on the way.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import FetchPartition, FetchRequest, FetchResult
from ottla.client.types import TopicPartition
from ottla.core.types import Buffer
from ottla.mirror.core.outage import Waiting
from ottla.mirror.engine.side import Side

logger = logging.getLogger("ottla.mirror")

_QUIET_AFTER_S: Final = 3.0
_QUIET_WAIT_MS: Final = 5_000
_QUIET_BYTES: Final = 1 << 20
_MAX_QUIET_REQUESTS: Final = 2  # to a node
_MAX_REQUESTS: Final = 12  # to a node, besides
_LEAST_BYTES: Final = 64 << 10  # below this no request is worth it


def _wait() -> None:
    pass


class Fetched(NamedTuple):
    """Batches of one partition, of which the first may begin before the offset that was asked for."""

    data: Buffer
    aborted: tuple[tuple[int, int], ...]
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    leader_epoch: int  # in which the source's leader answered; -1: any


class _Want:
    """Somebody waits for a partition's next batches."""

    __slots__ = ("future", "is_far_behind", "leader_epoch", "offset", "on_nothing", "partition", "since", "topic_id")

    def __init__(
        self,
        partition: TopicPartition,
        topic_id: str,
        offset: int,
        now: float,
        *,
        is_far_behind: bool,
        on_nothing: Callable[[], None],
    ) -> None:
        self.partition = partition
        self.topic_id = topic_id
        self.offset = offset
        self.since = now
        self.leader_epoch = -1
        self.is_far_behind = is_far_behind
        self.on_nothing = on_nothing
        self.future: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()


class SourceReader:
    """Of one cluster, for one flow. `memory_bytes` bounds what is under way and what was handed out.

    `owner`: in whose name partitions wait when the cluster is away (`Waiting`); an answer ends that.
    """

    def __init__(
        self,
        side: Side,
        *,
        owner: str,
        memory_bytes: int,
        partition_bytes: int,
        wait_ms: int,
        read_committed: bool = True,
    ) -> None:
        self._side = side
        self._owner = owner
        self._free = memory_bytes
        self._partition_bytes = min(partition_bytes, memory_bytes // 2)
        self.much_bytes = self._partition_bytes // 4  # who got so much and is still behind is far behind
        self._wait_ms = wait_ms
        self._read_committed = read_committed
        self._loop = asyncio.get_running_loop()
        self._wants: dict[TopicPartition, _Want] = {}
        self._requests: dict[tuple[int, bool], int] = {}  # by node and whether of quiet ones
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self.ends: dict[TopicPartition, tuple[int, int]] = {}  # how far may be read, and the log start, as last seen

    async def close(self) -> None:
        """Drop every request."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def read(
        self,
        partition: TopicPartition,
        topic_id: str,
        offset: int,
        *,
        is_far_behind: bool = False,
        on_nothing: Callable[[], None] = _wait,
    ) -> Fetched:
        """What follows `offset`, as soon as there is something; give its bytes back with `release`.

        `on_nothing` is called whenever the source answers that there is nothing yet. Raises ClientError;
        OFFSET_OUT_OF_RANGE and UNKNOWN_TOPIC_ID among others.
        """
        want = _Want(partition, topic_id, offset, self._loop.time(), is_far_behind=is_far_behind, on_nothing=on_nothing)
        self._wants[partition] = want
        self._wake()
        try:
            return await want.future
        finally:
            if self._wants.get(partition) is want:
                del self._wants[partition]
            if want.future.done() and not want.future.cancelled() and asyncio.current_task() is not None:
                self._take_back(want)

    def release(self, size: int) -> None:
        """These bytes are worked off."""
        self._free += size
        self._wake()

    def _take_back(self, want: _Want) -> None:
        """A read that was cancelled when its answer was there already holds its bytes no longer."""
        task = asyncio.current_task()
        if task is not None and task.cancelling() and want.future.exception() is None:
            self.release(len(want.future.result().data))

    # -- requests

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        self._scheduled = False
        now = self._loop.time()
        by_node: dict[tuple[int, bool], list[_Want]] = {}
        alone: list[tuple[int, _Want]] = []
        for want in list(self._wants.values()):
            node_id, _ = self._side.leader(want.partition)
            if node_id < 0:
                del self._wants[want.partition]
                want.future.set_exception(
                    ClientError(ErrorCode.LEADER_NOT_AVAILABLE, "no leader is known").at(*want.partition)
                )
                continue
            if want.is_far_behind:
                alone.append((node_id, want))
            else:
                by_node.setdefault((node_id, now - want.since > _QUIET_AFTER_S), []).append(want)
        for (node_id, quiet), wants in by_node.items():
            limit = _MAX_QUIET_REQUESTS if quiet else _MAX_REQUESTS
            if self._requests.get((node_id, quiet), 0) >= limit:
                continue
            budget = _QUIET_BYTES if quiet else min(self._free, self._partition_bytes * len(wants))
            if budget < _LEAST_BYTES:
                continue
            self._begin(node_id, quiet, wants, budget)
        for node_id, want in alone:
            budget = min(self._free, self._partition_bytes)
            if budget >= self.much_bytes and self._requests.get((node_id, False), 0) < _MAX_REQUESTS:
                self._begin(node_id, False, [want], budget)

    def _begin(self, node_id: int, quiet: bool, wants: list[_Want], budget: int) -> None:
        if not quiet:
            self._free -= budget
        for want in wants:
            del self._wants[want.partition]
        self._requests[node_id, quiet] = self._requests.get((node_id, quiet), 0) + 1
        task = asyncio.create_task(self._request(node_id, quiet, wants, budget), name="ottla-mirror-fetch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, node_id: int, quiet: bool, wants: list[_Want], budget: int) -> None:
        waiting = {want.partition: want for want in wants}
        for one in wants:
            one.leader_epoch = self._side.leader(one.partition)[1]
        request = FetchRequest(
            max_wait_ms=_QUIET_WAIT_MS if quiet else self._wait_ms,
            min_bytes=1,
            max_bytes=budget,
            read_committed=self._read_committed,
            partitions=[
                FetchPartition(
                    want.partition,
                    want.offset,
                    min(budget, self._partition_bytes),
                    want.leader_epoch,
                )
                for want in wants
            ],
            topic_ids={want.partition.topic: want.topic_id for want in wants},
        )
        handed_out = 0
        try:
            for result in await self._side.transport.fetch(node_id, request):
                want = waiting.pop(result.topic_partition, None)
                if want is not None and not want.future.done():
                    handed_out += self._on_result(want, result)
        except ClientError as error:
            for want in waiting.values():
                if not want.future.done():
                    want.future.set_exception(error.at(*want.partition))
        except Exception as error:  # a fault of our own: whoever waits is told, and does not wait for ever
            for want in waiting.values():
                if not want.future.done():
                    want.future.set_exception(error)
            raise
        finally:
            if not quiet:
                self._free += budget
            self._free -= handed_out
            self._requests[node_id, quiet] -= 1
            self._want_again(waiting.values())
            self._wake()

    def _on_result(self, want: _Want, result: FetchResult) -> int:
        """How many bytes were handed out."""
        if result.error is not None:
            want.future.set_exception(self._side.explained(result.error.at(*want.partition), "Read"))
            return 0
        self._side.outages.well(Waiting(self._owner, want.partition))
        end = result.last_stable_offset if self._read_committed else result.high_watermark
        self.ends[want.partition] = (end, result.log_start_offset)
        if not result.batches:
            want.on_nothing()
            self._want_again([want])
            return 0
        want.future.set_result(
            Fetched(
                result.batches,
                tuple(result.aborted_transactions),
                result.high_watermark,
                result.last_stable_offset,
                result.log_start_offset,
                want.leader_epoch,
            )
        )
        return len(result.batches)

    def _want_again(self, wants: Iterable[_Want]) -> None:
        for want in wants:
            if not want.future.done():
                self._wants.setdefault(want.partition, want)
