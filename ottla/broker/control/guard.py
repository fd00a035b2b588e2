"""The active controller's eye on the brokers: takes registrations and heartbeats, and fences whoever is gone.

`controller.liveness` judges; this tells it what happens on the links to the brokers, and has its judgement committed.
Nothing of it runs while another node's controller is active.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from ottla.broker.control.calls import Calls
from ottla.broker.control.listeners import LinkListener
from ottla.controller.broker_records import registration_of
from ottla.controller.controller import Controller
from ottla.controller.image import MetadataDelta, MetadataImage
from ottla.controller.liveness import Liveness
from ottla.controller.requests import BrokerHeartbeat
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ports import Clock, Timer
from ottla.core.types import NodeId, Uuid
from ottla.v1 import control_pb2 as pb
from ottla.v1 import metadata_pb2

logger = structlog.get_logger(__name__)

LOOK_MS: Final = 200.0
"""How often the liveness is asked when nobody is due. By these looks it knows how long its process stood still."""
BUSY_MS: Final = 50.0
"""While a fence waits to be committed."""


class Guard(LinkListener):
    """One node's, whoever decides. `cluster_id`: a broker of another cluster is refused."""

    def __init__(
        self,
        controller: Controller,
        calls: Calls,
        clock: Clock,
        *,
        cluster_id: Uuid,
        founders: int,
        session_ms: float,
    ) -> None:
        self._controller, self._calls, self._clock = controller, calls, clock
        self._cluster_id, self._founders = cluster_id, founders
        self._liveness = Liveness(session_ms=session_ms)
        self._stopped = False
        self._watching = False  # this node's controller is active
        self._broken: set[NodeId] = set()  # their links broke, and none stands since
        self._refusing: set[NodeId] = set()  # they refused one, and none stands since
        self._stalled: set[NodeId] = set()  # their disks do not answer, they say
        self._fencing: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._look_ms = 0.0  # when it fires

    def start(self) -> None:
        """From now on; before `Calls.start`."""
        self._calls.serve("register", self._register)
        self._calls.serve("beat", self._beat)
        self._calls.listen(self)
        self._controller.subscribe(self._published)
        self._controller.when_leadership_changes.append(self._look)
        self._look()

    def stop(self) -> None:
        """Fence nobody any more."""
        self._stopped, self._watching = True, False
        if self._timer is not None:
            self._timer.cancel()

    # -- what happens

    def linked(self, node: NodeId) -> None:
        self._broken.discard(node)
        self._refusing.discard(node)

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        if not broken:  # e.g. another stream stands, of the same process or of the one that follows it
            self._liveness.stream_ended(node)
            return
        self._broken.add(node)
        broker = self._controller.image.brokers.get(node)
        if self._watching and broker is not None:
            self._liveness.stream_broken(node, broker.epoch, self._clock.monotonic_ms())
            self._report(node)

    def refused(self, node: NodeId) -> None:
        self._refusing.add(node)
        if self._watching:
            self._report(node)

    def _report(self, node: NodeId) -> None:
        """One that is missed."""
        self._liveness.connection_refused(node, self._clock.monotonic_ms())
        if node in self._broken and node in self._refusing:
            self._liveness.process_ended(node)
        self._look_soon()

    def _published(self, image: MetadataImage, delta: MetadataDelta) -> None:
        if self._watching and delta.brokers:
            self._liveness.follow(image.brokers, self._clock.monotonic_ms())

    def metadata_offset(self, broker: NodeId) -> int:
        """Up to where that broker knows the metadata log, as far as this node was told; -1 when it was not."""
        return self._liveness.metadata_offset(broker)

    # -- looking

    def _look(self) -> None:
        """When this node begins or ends to decide; and while it does, when somebody may be due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_ms = self._clock.monotonic_ms()
        active = self._controller.is_active and not self._stopped
        if active and not self._watching:
            self._liveness.new_controller(now_ms, self._controller.image.brokers)
            for node in sorted(self._broken | self._refusing):
                self._report(node)
        self._watching = active
        if not active:
            return
        if (self._fencing is None or self._fencing.done()) and (due := self._liveness.tick(now_ms)):
            self._fencing = asyncio.get_running_loop().create_task(self._fence(due))
        self._look_soon()

    def _look_soon(self) -> None:
        """When the next broker is due, at the latest in LOOK_MS. Never later than it was: whoever refuses a connection
        every 100 ms would put off all looks, and the time without any would count for a pause of this process.
        """
        now_ms = self._clock.monotonic_ms()
        due_ms = self._liveness.next_deadline_ms()
        wait_ms = LOOK_MS if due_ms is None else due_ms - now_ms
        least_ms = 1.0 if self._fencing is None or self._fencing.done() else BUSY_MS
        wait_ms = min(max(wait_ms, least_ms), LOOK_MS)
        if self._timer is not None:
            if self._look_ms <= now_ms + wait_ms:
                return
            self._timer.cancel()
        self._look_ms = now_ms + wait_ms
        self._timer = self._clock.call_later(wait_ms, self._look)

    async def _fence(self, brokers: list[NodeId]) -> None:
        try:
            fenced = await self._controller.fence_brokers(brokers)
        except ApiError as error:  # liveness names them again
            logger.warning("brokers could not be fenced", brokers=brokers, error=str(error))
            return
        if fenced:
            logger.warning("brokers are gone: fenced", brokers=fenced)

    # -- what brokers ask

    async def _register(self, node: NodeId, frame: pb.ControlFrame) -> pb.ControlFrame:
        asked = frame.register
        registration = registration_of(asked.broker)
        if asked.cluster_id != self._cluster_id:
            raise ApiError(ErrorCode.INCONSISTENT_CLUSTER_ID, f"Broker {node} belongs to another cluster.")
        if registration.broker_id != node:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Node {node} registers broker {registration.broker_id}.")
        if not self._controller.image.last_broker_epoch:
            await self._controller.found_cluster(self._founders, self._cluster_id)
        epoch = await self._controller.register_broker(
            registration, previous_is_live=self._watching and self._liveness.is_live(node), ready=asked.alone
        )
        self._liveness.follow(self._controller.image.brokers, self._clock.monotonic_ms())
        registered = pb.ControlRegistered(broker_epoch=epoch, metadata_offset=self._controller.image.offset)
        return pb.ControlFrame(registered=registered)

    async def _beat(self, node: NodeId, frame: pb.ControlFrame) -> pb.ControlFrame:
        beat, now_ms = frame.beat, self._clock.monotonic_ms()
        if self._watching:
            if not self._liveness.is_live(node):
                self._liveness.stream_opened(node, beat.broker_epoch, now_ms)
            self._liveness.heard(node, beat.broker_epoch, now_ms, beat.metadata_offset)
        if beat.resign:
            self._stalled.add(node)
            await self._controller.resign_broker(node, beat.broker_epoch, self._stalled)
        else:
            self._stalled.discard(node)
        if beat.offline:
            await self._controller.give_up(node, beat.broker_epoch, _partitions(beat.offline))
        answer = await self._controller.heartbeat(
            BrokerHeartbeat(
                broker_id=node,
                broker_epoch=beat.broker_epoch,
                metadata_offset=beat.metadata_offset,
                ready=beat.ready and not beat.resign,
                truncated=_partitions(beat.truncated),
                stop=beat.stop,
            )
        )
        may_stop = answer.may_stop and self._watching and self._liveness.reached(answer.offset, but=(node,))
        return pb.ControlFrame(beat_answer=pb.ControlBeatAnswer(fenced=answer.fenced, may_stop=may_stop))


def _partitions(topics: Iterable[metadata_pb2.PartitionsOfTopic]) -> list[tuple[Uuid, int]]:
    return [(Uuid(of.topic_id), index) for of in topics for index in of.partitions]
