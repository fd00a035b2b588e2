"""A controller on a quorum that commits at once, or when it is told to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any

from ottla.controller.controller import Controller
from ottla.controller.decision import Decision
from ottla.controller.effective import EffectiveConfigs
from ottla.controller.features import SUPPORTED_FEATURES
from ottla.controller.image import Endpoint, MetadataImage
from ottla.controller.register_broker import register_broker
from ottla.controller.replay import ImageBuilder
from ottla.controller.requests import BrokerRegistration
from ottla.core.types import NodeId, Uuid
from ottla.raft.quorum import Committed, Entry, LogObserver, Member, Membership, NotLeader, RequestId
from ottla.v1 import metadata_pb2 as pb

NODE = NodeId(1)


def uuid(number: int) -> Uuid:
    return Uuid(number.to_bytes(16, "big"))


def registration(node: int = 1, incarnation: int = 1, rack: str | None = None) -> BrokerRegistration:
    return BrokerRegistration(
        broker_id=NodeId(node),
        incarnation_id=uuid(incarnation),
        listeners={"PLAINTEXT": Endpoint(f"host{node}", 9092)},
        rack=rack,
        grpc=Endpoint(f"host{node}", 10092),
        features=SUPPORTED_FEATURES,
    )


def register(image: MetadataImage, registration: BrokerRegistration, *, ready: bool = True) -> Decision[int]:
    return register_broker(image, configs(image), registration, ready=ready)


def image_of(*batches: Sequence[pb.MetadataRecord], base: MetadataImage | None = None) -> MetadataImage:
    image = base or MetadataImage()
    for batch in batches:
        image, _ = ImageBuilder(image).replay(batch).build(image.offset + 1, 1)
    return image


def after(image: MetadataImage, decision: Decision[Any]) -> MetadataImage:
    return image_of(decision.records, base=image)


def configs(image: MetadataImage, static: Mapping[str, str] | None = None) -> EffectiveConfigs:
    return EffectiveConfigs(image, static or {}, NODE)


class IdSource:
    """Ids 1, 2, 3 …"""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> Uuid:
        self.last += 1
        return uuid(self.last)


class HandQuorum:
    """Implements `Quorum`. Entries wait for `commit` unless `automatic`."""

    def __init__(self, controller: Controller, *, automatic: bool = True) -> None:
        self._machine = controller
        self.automatic = automatic
        self.is_leader = True
        self.term = 1
        self.commit_index = 0
        self.waiting: list[tuple[bytes, Future]] = []
        self.refuse_with: Exception | None = None
        controller.attach(self)

    @property
    def leader(self) -> NodeId | None:
        return NODE if self.is_leader else None

    @property
    def membership(self) -> Membership:
        raise NotImplementedError

    @property
    def last_index(self) -> int:
        return self.commit_index + len(self.waiting)

    def matched(self) -> Mapping[Member, int]:
        return {}

    def propose(self, data: bytes, request: RequestId | None = None) -> Awaitable[Committed]:
        future = Future()
        if self.refuse_with is not None:
            future.fail(self.refuse_with)
            return future
        self.waiting.append((data, future))
        if self.automatic:
            self.commit()
        return future

    def commit(self) -> None:
        for data, future in self.waiting:
            self.commit_index += 1
            self._machine.apply(Entry(self.commit_index, self.term, data))
            future.finish(Committed(self.commit_index, b""))
        self.waiting.clear()

    def lose(self) -> None:
        self.is_leader = False
        waiting, self.waiting = self.waiting, []
        self._machine.leadership_changed(None, self.term)
        for _, future in waiting:
            future.fail(NotLeader(None))

    async def read_barrier(self) -> int:
        return self.commit_index

    def observe(self, observer: LogObserver, after_index: int) -> Callable[[], None]:
        raise NotImplementedError

    def open_session(self) -> Awaitable[int]:
        raise NotImplementedError

    def add_voter(self, member: Member, endpoint: str) -> Awaitable[None]:
        raise NotImplementedError

    def remove_member(self, member: Member) -> Awaitable[None]:
        raise NotImplementedError

    def transfer_leadership(self, node: NodeId) -> Awaitable[None]:
        raise NotImplementedError


class Future:
    """As little of a future as awaiting needs: polled by an event loop that runs turn by turn."""

    def __init__(self) -> None:
        self._result: Committed | None = None
        self._error: Exception | None = None

    def finish(self, result: Committed) -> None:
        self._result = result

    def fail(self, error: Exception) -> None:
        self._error = error

    def done(self) -> bool:
        return self._result is not None or self._error is not None

    def exception(self) -> Exception | None:
        return self._error

    def __await__(self):  # type: ignore[no-untyped-def]
        while self._result is None and self._error is None:
            yield
        if self._error is not None:
            raise self._error
        return self._result


async def started_controller(
    static: Mapping[str, str] | None = None, *, automatic: bool = True
) -> tuple[Controller, HandQuorum]:
    controller = Controller(NODE, random=Random(1), static_configs=static or {})
    quorum = HandQuorum(controller)
    await controller.register_broker(registration(), ready=True)
    quorum.automatic = automatic
    return controller, quorum
