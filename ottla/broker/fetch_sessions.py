"""Fetch sessions (KIP-227): the partitions that a consumer follows, remembered between its requests.

A session's requests name only what changed, and its responses hold only partitions with something new. The number of
sessions is bounded; when it is reached, the one unused for longest makes room once it was idle for long enough, and
until then newcomers get their answers without a session, as Kafka does it.
"""

from collections import OrderedDict
from typing import Final

from ottla.broker.fetch_messages import (
    FINAL_EPOCH,
    INITIAL_EPOCH,
    NO_PREFERENCE,
    NO_SESSION,
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
)
from ottla.broker.replicas import TopicKey
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock, Random

DEFAULT_SLOTS: Final = 1000
EVICTION_MS: Final = 120_000
_MAX_ID: Final = 2**31 - 1
_UNTOLD: Final = -2


class _Followed:
    """A partition of a session, and what its consumer was last told about it."""

    __slots__ = ("high_watermark", "log_start_offset", "partition")

    def __init__(self, partition: FetchPartition) -> None:
        self.partition = partition
        self.high_watermark = _UNTOLD
        self.log_start_offset = _UNTOLD

    def has_news(self, fetched: FetchedPartition) -> bool:
        """Whether the response must name the partition; remembers what it then says."""
        news = (
            fetched.size > 0
            or fetched.error != ErrorCode.NONE
            or fetched.preferred_replica != NO_PREFERENCE
            or fetched.high_watermark != self.high_watermark
            or fetched.log_start_offset != self.log_start_offset
        )
        self.high_watermark = fetched.high_watermark
        self.log_start_offset = fetched.log_start_offset
        if fetched.error:
            self.high_watermark = _UNTOLD  # so that the consumer hears of it when the error has passed
        return news


class Session:
    """One consumer's partitions, in the order in which they are served next."""

    __slots__ = ("followed", "id", "next_epoch", "used_ms", "uses_ids")

    def __init__(self, session_id: int, uses_ids: bool) -> None:
        self.id = session_id
        self.uses_ids = uses_ids
        self.next_epoch = 1
        self.used_ms = 0.0
        self.followed: dict[tuple[TopicKey, int], _Followed] = {}

    def update(self, request: FetchRequest) -> None:
        """Add, change and forget partitions as the request says."""
        followed = self.followed
        for partition in request.partitions:
            key = (partition.topic, partition.index)
            known = followed.get(key)
            if known is None:
                followed[key] = _Followed(partition)
            else:
                known.partition = partition
        for key in request.forgotten:
            followed.pop(key, None)


class FetchContext:
    """What one request is answered from: its own partitions, or those of its session."""

    __slots__ = ("_incremental", "_session", "partitions")

    def __init__(self, partitions: list[FetchPartition], session: Session | None, *, incremental: bool) -> None:
        self.partitions = partitions
        self._session = session
        self._incremental = incremental

    def respond(self, fetched: list[FetchedPartition]) -> FetchResponse:
        """The response that tells what the consumer does not know yet."""
        session = self._session
        if session is None:
            return FetchResponse(fetched)
        followed = session.followed
        told: list[FetchedPartition] = []
        for partition in fetched:
            key = (partition.topic, partition.index)
            known = followed.get(key)
            if known is None:
                continue
            if known.has_news(partition) or not self._incremental:
                told.append(partition)
            if partition.size:  # served: the others come first next time
                followed[key] = followed.pop(key)
        return FetchResponse(told, session_id=session.id)


class FetchSessions:
    """The sessions of one broker (`max.incremental.fetch.session.cache.slots`)."""

    def __init__(self, clock: Clock, random: Random, slots: int = DEFAULT_SLOTS) -> None:
        self.slots = slots
        self._clock = clock
        self._random = random
        self._sessions: OrderedDict[int, Session] = OrderedDict()  # unused for longest first

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, request: FetchRequest) -> FetchContext:
        """The context of the request; raises ApiError when its session is not as the client believes."""
        epoch = request.session_epoch
        if epoch not in (INITIAL_EPOCH, FINAL_EPOCH):
            return self._continue(request)
        if request.session_id != NO_SESSION:
            self._sessions.pop(request.session_id, None)
        session = self._create(request) if epoch == INITIAL_EPOCH and request.partitions else None
        return FetchContext(request.partitions, session, incremental=False)

    def _continue(self, request: FetchRequest) -> FetchContext:
        session = self._sessions.get(request.session_id)
        if session is None:
            raise ApiError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.next_epoch != request.session_epoch:
            raise ApiError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if _uses_ids(request, session.uses_ids) != session.uses_ids:
            raise ApiError(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        session.update(request)
        if not session.followed:
            del self._sessions[session.id]
            return FetchContext([], None, incremental=False)
        session.next_epoch = session.next_epoch + 1 if session.next_epoch < _MAX_ID else 1
        self._touch(session)
        return FetchContext([known.partition for known in session.followed.values()], session, incremental=True)

    def _create(self, request: FetchRequest) -> Session | None:
        if len(self._sessions) >= self.slots and not self._evict():
            return None
        session_id = self._random.randrange(1, _MAX_ID)
        while session_id in self._sessions:
            session_id = self._random.randrange(1, _MAX_ID)
        session = self._sessions[session_id] = Session(session_id, _uses_ids(request, False))
        session.update(request)
        self._touch(session)
        return session

    def _touch(self, session: Session) -> None:
        session.used_ms = self._clock.monotonic_ms()
        self._sessions.move_to_end(session.id)

    def _evict(self) -> bool:
        if not self._sessions:
            return False
        oldest = next(iter(self._sessions.values()))
        if self._clock.monotonic_ms() - oldest.used_ms < EVICTION_MS:
            return False
        del self._sessions[oldest.id]
        return True


def _uses_ids(request: FetchRequest, otherwise: bool) -> bool:
    if request.partitions:
        return not isinstance(request.partitions[0].topic, str)
    if request.forgotten:
        return not isinstance(request.forgotten[0][0], str)
    return otherwise
