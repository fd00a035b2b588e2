"""Keeps a consumer in its group: heartbeats in a task of its own, partitions given up and taken while it polls.

The coordinator hears of the member at the interval that it asks for, and at once when there is news. The application
is asked about partitions only inside `poll` (or `async for`), as in Kafka's clients: so nothing is taken away while it
works on records. A consumer that does not poll for `max_poll_interval_ms` leaves, and joins again with the next poll.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from ottla.client.backoff import Backoff
from ottla.client.config import ConsumerConfig
from ottla.client.coordination import CoordinatorType
from ottla.client.coordinators import Coordinators
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.fetcher import Fetcher
from ottla.client.membership import Membership
from ottla.client.transport import Transport
from ottla.client.types import TopicPartition

logger = logging.getLogger("ottla.client")

GROUP = CoordinatorType.GROUP
_FENCED = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.GROUP_ID_NOT_FOUND})
# A coordinator that is silent for longer is looked for again, well before it would drop the member (45 s).
_BEAT_TIMEOUT_S = 10.0
_LEAVE_TIMEOUT_S = 5.0


class GroupSession:
    """One membership, while the consumer is open."""

    def __init__(
        self,
        config: ConsumerConfig,
        transport: Transport,
        coordinators: Coordinators,
        fetcher: Fetcher,
        membership: Membership,
        commit: Callable[[Sequence[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._config, self._transport, self._coordinators, self._fetcher = config, transport, coordinators, fetcher
        self._commit = commit  # what the application has done with these partitions; when they are given up in order
        self._backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._failures = 0
        self._polling = 0
        self._polled_at = self._loop.time()
        self.membership = membership
        self.error: ClientError | None = None  # why the group will not have this consumer; final

    # --- the consumer's side

    def subscribe(self, topics: Sequence[str]) -> None:
        """Be a member that reads these topics."""
        self._polled_at = self._loop.time()
        self.membership.join(topics)
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="ottla-client-heartbeat")
        self._wake.set()

    def poll_begins(self) -> None:
        """The application asks for records."""
        if self._settling is not None and asyncio.current_task() is self._settling:
            raise RuntimeError("a callback of the consumer cannot poll: it would wait for itself")
        self._polling += 1
        self._polled_at = self._loop.time()
        if self._task is not None and not self.membership.is_in:
            self.subscribe(self.membership.topics)  # it had left, as nobody polled

    def poll_ends(self) -> None:
        """The application works on records."""
        self._polling -= 1
        self._polled_at = self._loop.time()

    @property
    def is_quiet(self) -> bool:
        """Whether `settle` has nothing to do or to tell."""
        return self.membership.is_settled and self._settling is None and self.error is None

    async def settle(self, deadline: float | None) -> bool:
        """Give up and take partitions; False when that is not done by `deadline`.

        Raises what a callback raised, and ClientError when the group will not have the consumer. Cancelling it, or the
        deadline, leaves the work to the next poll: it goes on meanwhile.
        """
        if self.error is not None:
            raise self.error
        while self._settling is not None or not self.membership.is_settled:
            if self._settling is None:
                self._settling = self._loop.create_task(self._settle(), name="ottla-client-rebalance")
            remaining = None if deadline is None else max(0.0, deadline - self._loop.time())
            done, _ = await asyncio.wait([self._settling], timeout=remaining)
            if not done:
                return False
            settled, self._settling = self._settling, None
            settled.result()
        return True

    async def leave(self) -> None:
        """Tell the application, then the coordinator, which need not wait for the session to expire."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
            self._settling = None
        membership = self.membership
        was_in = membership.is_in
        try:
            if was_in:
                await self._give_up(sorted(membership.owned))
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            if was_in and self.error is None:
                await self._tell_leaving()

    # --- partitions

    async def _settle(self) -> None:
        membership = self.membership
        if membership.lost:
            await self._lose(sorted(membership.lost))
        revoked, added = membership.difference()
        if revoked:
            await self._give_up(revoked)
        elif added:
            logger.debug("group %s: taking %s", membership.group_id, added)
            membership.took(added)
            self._fetcher.assign(membership.owned)
            self._wake.set()
            if self._config.on_assigned is not None:
                await self._config.on_assigned(added)

    async def _give_up(self, partitions: list[TopicPartition]) -> None:
        logger.debug("group %s: giving up %s", self.membership.group_id, partitions)
        try:
            if partitions and self._config.enable_auto_commit:
                await self._commit(partitions)
            if partitions and self._config.on_revoked is not None:
                await self._config.on_revoked(partitions)
        finally:
            # Whatever the callback says: the group waits for them.
            self.membership.gave_up(partitions)
            self._fetcher.assign(self.membership.owned)
            self._wake.set()

    async def _lose(self, partitions: list[TopicPartition]) -> None:
        logger.warning("group %s: this member was dropped, and lost %s", self.membership.group_id, partitions)
        self._fetcher.assign(self.membership.owned)
        self.membership.told_lost()
        told = self._config.on_lost or self._config.on_revoked
        if told is not None:
            await told(partitions)

    # --- heartbeats

    async def _run(self) -> None:
        next_at = 0.0
        while self.error is None:
            await self._until(next_at)
            if not self.membership.is_in:
                next_at = self._loop.time() + 3_600.0  # until the next poll
                continue
            if self._is_idle():
                await self._leave_idle()
                continue
            await self._beat()
            news = self.membership.has_news and self._failures == 0
            delay_ms = self._backoff.delay_ms(self._failures) if self._failures else self.membership.interval_ms
            next_at = self._loop.time() + (0.0 if news else delay_ms / 1000)
            if self._failures:
                self._wake.clear()  # news cannot go faster than the retries

    async def _until(self, at: float) -> None:
        """Wait for news, for the time of the next heartbeat, or for the application's idleness."""
        if not self._polling and self.membership.is_in:
            at = min(at, self._polled_at + self._config.max_poll_interval_ms / 1000)
        try:
            async with asyncio.timeout_at(at):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _is_idle(self) -> bool:
        idle_s = self._loop.time() - self._polled_at
        return not self._polling and idle_s >= self._config.max_poll_interval_ms / 1000

    async def _leave_idle(self) -> None:
        logger.warning(
            "group %s: no poll for max_poll_interval_ms=%d: leaving, until the next one. Poll more often, take fewer "
            "records (max_poll_records), or raise it",
            self.membership.group_id,
            self._config.max_poll_interval_ms,
        )
        await self._tell_leaving()
        self.membership.left()
        self._fetcher.arrived.set()

    async def _tell_leaving(self) -> None:
        request = self.membership.leaving()
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await self._coordinators.ask(
                    GROUP, request.group_id, lambda node_id: self._transport.groups.heartbeat(node_id, request)
                )
        except (ClientError, TimeoutError) as error:
            logger.info("group %s: could not tell that this member leaves: %s", request.group_id, error)

    async def _beat(self) -> None:
        membership = self.membership
        request = membership.request()
        try:
            async with asyncio.timeout(min(_BEAT_TIMEOUT_S, self._config.request_timeout_ms / 1000)):
                answer = await self._coordinators.attempt(
                    GROUP, request.group_id, lambda node_id: self._transport.groups.heartbeat(node_id, request)
                )
        except TimeoutError:
            self._failed(ClientError(ErrorCode.REQUEST_TIMED_OUT, "the coordinator does not answer"))
        except ClientError as error:
            self._failed(error)
        else:
            self._failures = 0
            membership.answered(request, answer)
            if not membership.is_settled:
                self._fetcher.arrived.set()

    def _failed(self, error: ClientError) -> None:
        membership = self.membership
        membership.failed()
        if error.code in _FENCED and not (error.code is ErrorCode.GROUP_ID_NOT_FOUND and not membership.epoch):
            logger.info("group %s: %s", membership.group_id, error)
            membership.fenced()
            self._wake.set()
            self._fetcher.arrived.set()
        elif error.retriable:
            logger.debug("group %s: %s", membership.group_id, error)
            self._failures += 1
            self._coordinators.told(GROUP, membership.group_id, error)
        else:
            self.error = error
            self._fetcher.arrived.set()
