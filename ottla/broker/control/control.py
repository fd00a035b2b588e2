"""One node's part in the control of its cluster, put together: calls, forwarding, asking, guard, access to the
controller.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.broker.control.access import ControllerAccess
from ottla.broker.control.asking import Asking
from ottla.broker.control.balance import LeaderBalance
from ottla.broker.control.calls import Calls
from ottla.broker.control.forwarding import Forwarding
from ottla.broker.control.guard import Guard
from ottla.broker.control.life import BrokerLife
from ottla.broker.control.observed_log import ObservedLog
from ottla.broker.control.observer import Observer, ObservingNode
from ottla.controller.controller import Controller
from ottla.controller.requests import BrokerRegistration
from ottla.core.ports import Clock, Mesh, Random
from ottla.core.types import NodeId, Uuid
from ottla.raft.quorum import Quorum

if TYPE_CHECKING:
    from ottla.broker.broker import Broker


class Control:
    """Made before the broker, started by it. `founders`: how many nodes the cluster was founded with."""

    def __init__(
        self,
        controller: Controller,
        mesh: Mesh,
        clock: Clock,
        random: Random,
        *,
        node_id: NodeId,
        cluster_id: Uuid,
        founders: int,
        session_ms: float,
    ) -> None:
        self._cluster_id, self._founders, self._session_ms, self._clock = cluster_id, founders, session_ms, clock
        self.calls = Calls(node_id, mesh, clock, random)
        self._random = random
        self.access = ControllerAccess(controller, node_id, lambda: self.forwarding)
        self.guard = Guard(
            controller, self.calls, clock, cluster_id=cluster_id, founders=founders, session_ms=session_ms
        )
        self.forwarding: Forwarding
        self.asking: Asking
        self._balance: LeaderBalance | None = None
        self._observed: ObservedLog | None = None
        self._observer: Observer | None = None

    def observe(self, quorum: Quorum, node: ObservingNode, *, votes: Callable[[], bool]) -> None:
        """Tell others of the log while this node votes, and follow theirs while it does not; before `start`."""
        self._observed = ObservedLog(quorum, votes, self.calls, self._clock)
        self._observer = Observer(node, self.calls, self._clock)

    def start(self, broker: "Broker") -> None:
        """Answer other nodes from now on, and hear of links."""
        self.forwarding = Forwarding(broker, self.calls)
        self.asking = Asking(broker, self.calls, self._random)
        self.calls.use(broker.replication)
        broker.replication.attach(self.calls)
        self.calls.listen(broker.departures)
        self.guard.start()
        self.calls.start()
        self._balance = LeaderBalance(broker)
        self._balance.start()
        if self._observer is not None:
            self._observer.start()

    def life(self, registration: BrokerRegistration) -> BrokerLife:
        """The broker's own, in this cluster."""
        return BrokerLife(
            registration,
            self.access,
            self.calls,
            self._clock,
            cluster_id=self._cluster_id,
            alone=self._founders == 1,
            beat_ms=self._session_ms / 4,
        )

    def stop(self) -> None:
        """Fence nobody any more, tell nobody, follow nobody."""
        self.guard.stop()
        if self._balance is not None:
            self._balance.stop()
        if self._observer is not None:
            self._observer.stop()
        if self._observed is not None:
            self._observed.stop()
