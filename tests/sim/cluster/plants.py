"""Planted bugs: what the simulation of whole clusters must find before anybody believes it that there are no others.

Those of transactions and groups stand in `transactions.plants`. Those of replication are taken over from
`tests.sim.replication.plants`, but for those that only mirrors meet, of which there are none here, and two: one is
planted into its fake controller; the other, "a node leads by what its metadata said before it registered", does nothing
in a whole broker, which opens its partitions only when its image holds its registration. (That both are missing is
planted below.)
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from ottla.broker.control.forwarding import Forwarding
from ottla.broker.control.life import BrokerLife
from ottla.broker.local_partitions import LocalPartitions
from ottla.controller import alter_partition, controller, election, register_broker
from ottla.controller.controller import Controller
from ottla.controller.decider import Decider, _Proposed
from ottla.controller.decision import Decision
from ottla.controller.image import MetadataDelta, MetadataImage, PartitionImage
from ottla.controller.liveness import Liveness
from ottla.core.types import NodeId
from ottla.partitions.replication.manager import ReplicaManager
from tests.sim.cluster.planting import Planting, Plants
from tests.sim.cluster.transactions.plants import PLANTS as TRANSACTIONS
from tests.sim.replication.plants import OF_MIRRORS, Plant
from tests.sim.replication.plants import PLANTS as OF_REPLICATION

PLANTS: Final = Plants(TRANSACTIONS)
plant = PLANTS.plant

_NEVER: Any = _Proposed(b"never", MetadataImage(), MetadataDelta())

_NOT_TAKEN_OVER: Final = OF_MIRRORS | {
    "a restarted node goes on in the epoch that it led",
    "a node leads by what its metadata said before it registered",
}


def _taken_over(plant: Plant) -> Planting:
    @contextmanager
    def planted() -> Iterator[None]:
        with ExitStack() as stack:
            plant(lambda owner, name, value: stack.enter_context(patch.object(owner, name, value)))
            yield

    return planted


PLANTS.update({name: _taken_over(plant) for name, plant in OF_REPLICATION.items() if name not in _NOT_TAKEN_OVER})


@plant("broker epochs are not checked in AlterPartition")
def epochs_unchecked() -> Iterator[None]:
    def unchecked(image: Any, broker_id: NodeId, broker_epoch: int) -> Any:
        return image.brokers.get(broker_id)

    def refusal(image: Any, broker_id: NodeId, one: Any) -> Any:
        isr = [(node, image.brokers[node].epoch if node in image.brokers else epoch) for node, epoch in one.isr]
        return honest(image, broker_id, replace(one, isr=isr))

    honest = alter_partition._refusal
    with (
        patch.object(alter_partition, "checked_broker", unchecked),
        patch.object(alter_partition, "_refusal", refusal),
        patch.object(ReplicaManager, "is_current", lambda self, node, epoch: True),
        _taken_over(OF_REPLICATION["an old incarnation is accepted"])(),
    ):
        yield


@plant("a damaged replica is made anew while others count on it")
def made_anew_too_soon() -> Iterator[None]:
    def is_to_be(self: LocalPartitions, topic: Any, partition: PartitionImage) -> bool:
        replica = self._manager.get(topic.name, partition.index)
        return replica is not None and replica.is_damaged

    with patch.object(LocalPartitions, "_is_to_be_made_anew", is_to_be):
        yield


@plant("a registration does not raise leader epochs")
def same_epoch() -> Iterator[None]:
    """And leaves it the leader, as if nothing had happened."""

    def consequences(image: Any, configs: Any, registration: Any, known: Any, registered: Any, ready: bool) -> Any:
        for record in registered:
            record.register_broker.fenced = False
        return registered

    with patch.object(register_broker, "_consequences", consequences):
        yield


@plant("a fenced broker is elected")
def fenced_elected() -> Iterator[None]:
    def first(order: Any, among: Any, active: Any) -> NodeId:
        return next((one for one in order if one in among), NodeId(-1))

    with patch.object(election, "_first", first):
        yield


@plant("a replica that was out of sync is elected")
def unclean() -> Iterator[None]:
    honest = election.settle

    def settle(partition: PartitionImage, rules: Any, active: Any, **more: Any) -> PartitionImage:
        more["unclean"] = True
        return honest(partition, rules, active, **more)

    with patch.object(election, "settle", settle):
        yield


@plant("a broker that is fenced stays in the ISR as eligible, however few are left")
def elr_of_anybody() -> Iterator[None]:
    honest = election.eligible

    def eligible(partition: Any, isr: Any, rules: Any, lost: Any = frozenset()) -> Any:
        elr, known = honest(partition, isr, rules, lost)
        return tuple(one for one in partition.replicas if one not in isr) if elr else elr, known

    with patch.object(election, "eligible", eligible):
        yield


@plant("a controller decides on a stale image after it was elected")
def stale_image() -> Iterator[None]:
    """On what it had proposed itself, long ago: it never takes back what was not committed, nor looks at the log."""

    def changed(self: Controller, leader: Any, term: int) -> None:
        self._proposed.clear()

    def replayed(self: Decider, entry: Any) -> Any:
        if self._proposed and self._proposed[0].data == entry.data:
            return honest(self, entry)
        tentative = self._tentative
        result = honest(self, entry)
        if tentative.offset or tentative.topics:
            self._proposed.append(_NEVER)
            self._tentative = tentative
        return result

    honest = Decider._replayed
    with patch.object(Controller, "leadership_changed", changed), patch.object(Decider, "_replayed", replayed):
        yield


@plant("a broker serves before its image holds its registration")
def serves_early() -> Iterator[None]:
    async def known_already(self: BrokerLife, offset: int) -> None:
        """Nothing is waited for."""

    with (
        patch.object(BrokerLife, "_until_known", known_already),
        patch.object(ReplicaManager, "_is_registered", lambda self: True),
    ):
        yield


@plant("forwarding answers before the image caught up")
def forwards_early() -> Iterator[None]:
    async def caught_up(self: Forwarding, offset: int) -> None:
        """Nothing is waited for."""

    with patch.object(Forwarding, "_catch_up", caught_up):
        yield


@plant("an emptied disk may register as the broker that it was")
def emptied_disk() -> Iterator[None]:
    """Nobody looks at the directory, and nobody takes the lost replicas out."""

    def replace_broker(image: Any, configs: Any, broker_id: NodeId, **more: Any) -> Decision[list[Any]]:
        return Decision([])

    with (
        patch.object(register_broker, "_check_directory", lambda known, registration: None),
        patch.object(controller, "replace_broker", replace_broker),
    ):
        yield


@plant("a lost registration is not noticed by the replicas")
def registered_once() -> Iterator[None]:
    with patch.object(BrokerLife, "_register_again", _register_quietly):
        yield


async def _register_quietly(self: BrokerLife) -> None:
    await self._until_known(await self._register())


@plant("an incarnation that nobody hears any more keeps the next one out")
def duplicate_for_ever() -> Iterator[None]:
    honest = Liveness.tick

    def tick(self: Liveness, now_ms: float) -> list[NodeId]:
        before = {broker: session.open for broker, session in self._sessions.items()}
        due = honest(self, now_ms)
        for broker in due:
            self._sessions[broker].open = before[broker]
        return due

    with patch.object(Liveness, "tick", tick), patch.object(Liveness, "stream_ended", lambda self, broker: None):
        yield
