"""A broker's life in its cluster: it registers with the active controller, says that it lives, and asks to stop.

    SEEKING ── registered ──▶ FENCED ── ready, knows the metadata ──▶ RUNNING ── stop asked ──▶ STOPPING ── may stop ▶
       ▲                        ▲                                        │
       └─ its epoch is stale ───┴──────────── it was silent too long ────┘

Registering says what the node had before its start is over; being ready says that its partitions are open. Whoever is
fenced, rightly or not, only has to say again that it is ready.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from ottla.broker.control.access import ControllerAccess
from ottla.broker.control.calls import Calls
from ottla.broker.control.listeners import LinkListener
from ottla.controller.broker_records import registration_record
from ottla.controller.image import MetadataImage
from ottla.controller.requests import BrokerRegistration
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock
from ottla.core.types import NodeId, Uuid
from ottla.v1 import control_pb2 as pb
from ottla.v1 import metadata_pb2

logger = structlog.get_logger(__name__)

RETRY_MS: Final = 50.0
GIVE_UP_MS: Final = 500.0
"""A broker that stops and finds no controller for so long has nobody to hand over to: the whole cluster stops."""
ANSWER_MS: Final = 5_000.0  # a registration or a beat may wait for a commit
_STALE: Final = frozenset({ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED})
_HOPELESS: Final = frozenset(
    {ErrorCode.INCONSISTENT_CLUSTER_ID, ErrorCode.INVALID_REGISTRATION, ErrorCode.UNSUPPORTED_VERSION}
)


class BrokerLife(LinkListener):
    """One broker's, from its start to its stop."""

    def __init__(
        self,
        registration: BrokerRegistration,
        access: ControllerAccess,
        calls: Calls,
        clock: Clock,
        *,
        cluster_id: Uuid,
        alone: bool,
        beat_ms: float,
    ) -> None:
        """`alone`: this node is its whole cluster, and waits for nobody."""
        self.epoch = -1
        self.fenced = True
        self.resigning = False  # its disk stalls
        self._registration, self._access, self._calls, self._clock = registration, access, calls, clock
        self._cluster_id, self._alone, self._beat_ms = cluster_id, alone, beat_ms
        self._ready = self._stopping = False
        self.on_registered: Callable[[int], None] = lambda epoch: None  # again, under this epoch, while it runs
        self.on_resigned: Callable[[], None] = lambda: None  # others lead what they could, the controller says
        self._truncated: Mapping[Uuid, Sequence[int]] = {}
        self._offline: Mapping[Uuid, Sequence[int]] = {}
        self._may_stop = False
        self._unanswered_since_ms: float | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def register(self) -> None:
        """Return when this node's image holds its registration. Raises ApiError when it is refused for good."""
        self._calls.listen(self)
        offset = await self._register()
        await self._until_known(offset)
        self._task = asyncio.get_running_loop().create_task(self._beat_on())

    async def ready(self, truncated: Mapping[Uuid, Sequence[int]]) -> None:
        """The partitions are open; return when the broker may lead. `truncated`: what lost a part of its log's end."""
        self._ready, self._truncated = True, truncated
        self.fenced = not self._alone
        await self._until(lambda: not self.fenced)
        if not self._alone:  # the answer to a beat overtakes the metadata: clients would hear of no leaders yet
            await self._until_image(self._is_unfenced)

    async def stop(self, timeout_ms: float) -> bool:
        """Hand over whatever is led; return when that is done, or False when it took too long."""
        if self._task is None:
            return True
        self._stopping = True
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._until(lambda: self._may_stop)
        except TimeoutError:
            return False
        finally:
            self._task.cancel()
        return True

    def abandon(self) -> None:
        """Say nothing any more."""
        if self._task is not None:
            self._task.cancel()

    def tell(self) -> None:
        """Something changed: beat now."""
        self._wake.set()

    def disk_stalls(self, stalls: bool) -> None:
        """Whether this broker's disk answers: as long as it does not, others are to lead, and be in sync."""
        if stalls != self.resigning:
            self.resigning = stalls
            self.tell()

    def files_fail(self, offline: Mapping[Uuid, Sequence[int]]) -> None:
        """These replicas have failed; they are told with every beat, as another controller knows nothing of it."""
        if offline != self._offline:
            self._offline = offline
            self.tell()

    def linked(self, node: NodeId) -> None:
        """Perhaps the controller: it learns of this broker at once."""
        self.tell()

    # -- inside

    async def _until(self, condition: Callable[[], bool]) -> None:
        self.tell()
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _register(self) -> int:
        record = registration_record(self._registration)
        told = False
        while True:
            try:
                question = pb.ControlRegister(cluster_id=self._cluster_id, broker=record, alone=self._alone)
                answer = await self._ask(pb.ControlFrame(register=question))
            except ApiError as error:
                if error.code in _HOPELESS:
                    raise
                if not told and error.code is not ErrorCode.NOT_CONTROLLER:
                    told = True
                    logger.warning("this broker is not registered yet", error=str(error))
                await self._pause(RETRY_MS)
            else:
                self.epoch = answer.registered.broker_epoch
                return int(answer.registered.metadata_offset)

    async def _until_known(self, offset: int) -> None:
        await self._until_image(lambda image: image.offset >= offset)

    def _is_unfenced(self, image: MetadataImage) -> bool:
        broker = image.brokers.get(self._registration.broker_id)
        return broker is not None and not broker.fenced

    async def _until_image(self, condition: Callable[[MetadataImage], bool]) -> None:
        known = asyncio.Event()
        end = self._access.subscribe(lambda image, _: known.set() if condition(image) else None)
        try:
            if not condition(self._access.image):
                await known.wait()
        finally:
            end()

    async def _beat_on(self) -> None:
        while True:
            beat = self._beat()
            try:
                answer = (await self._ask(pb.ControlFrame(beat=beat))).beat_answer
            except ApiError as error:
                if error.code in _STALE and not self._stopping:
                    await self._register_again()
                    continue
                self._count_unanswered()
                await self._pause(RETRY_MS)
                continue
            self._unanswered_since_ms = None
            self._take(answer)
            if beat.resign and self.resigning:
                self.on_resigned()
            waiting = (self._ready and self.fenced) or self._stopping
            await self._pause(RETRY_MS if waiting else self._beat_ms)

    async def _register_again(self) -> None:
        logger.warning("this broker's registration is not known any more; it registers again")
        try:
            offset = await self._register()
        except ApiError:
            logger.exception("this broker has no part in its cluster any more; restart it")
            raise
        await self._until_known(offset)
        self.fenced = True
        self.on_registered(self.epoch)

    def _count_unanswered(self) -> None:
        now_ms = self._clock.monotonic_ms()
        since_ms = self._unanswered_since_ms = self._unanswered_since_ms or now_ms
        if self._stopping and now_ms - since_ms >= GIVE_UP_MS:
            self._may_stop = True
            self._changed.set()

    def _beat(self) -> pb.ControlBeat:
        return pb.ControlBeat(
            broker_epoch=self.epoch,
            metadata_offset=self._access.image.offset,
            ready=self._ready,
            stop=self._stopping,
            resign=self.resigning,
            truncated=_of_topics(self._truncated),
            offline=_of_topics(self._offline),
        )

    def _take(self, answer: pb.ControlBeatAnswer) -> None:
        if answer.fenced and not self.fenced:
            logger.warning("the controller took this broker for gone; it says again that it is ready")
        if not answer.fenced:
            self._truncated = {}  # told
        self.fenced, self._may_stop = answer.fenced, answer.may_stop
        self._changed.set()

    async def _ask(self, question: pb.ControlFrame) -> pb.ControlFrame:
        controller = self._access.active_id
        if controller is None or not self._calls.is_linked(controller):
            raise ApiError(ErrorCode.NOT_CONTROLLER, "The cluster has no active controller now.")
        access = self._access
        return await self._calls.call_while(
            lambda: access.active_id == controller, controller, question, timeout_ms=ANSWER_MS
        )

    async def _pause(self, duration_ms: float) -> None:
        timer = self._clock.call_later(duration_ms, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        self._wake.clear()


def _of_topics(partitions: Mapping[Uuid, Sequence[int]]) -> list[metadata_pb2.PartitionsOfTopic]:
    return [
        metadata_pb2.PartitionsOfTopic(topic_id=topic_id, partitions=indexes)
        for topic_id, indexes in partitions.items()
    ]
