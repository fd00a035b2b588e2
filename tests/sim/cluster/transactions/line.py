"""A client's way to the nodes: numbered connections, requests that may be late, and coordinators that are looked for.

A request of which no answer came may still be on its way: its client opens another connection and sends it again, and
the first one arrives when something else has happened meanwhile.
"""

from typing import Any, Final

from ottla.broker.context import RequestContext
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import VERSIONS, ApiKey
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from tests.sim.cluster.calls import Unanswered, Unreached
from tests.sim.cluster.clients import FAILURES, Client
from tests.sim.cluster.host import LISTENER, Host

WITHIN_S: Final = 0.7
LATEST_S: Final = 3.0

OF_TRANSACTIONS: Final = frozenset(
    {
        ApiKey.INIT_PRODUCER_ID,
        ApiKey.ADD_PARTITIONS_TO_TXN,
        ApiKey.ADD_OFFSETS_TO_TXN,
        ApiKey.PRODUCE,
        ApiKey.TXN_OFFSET_COMMIT,
        ApiKey.END_TXN,
    }
)

GROUP: Final = 0
TRANSACTION: Final = 1

RETRIABLE: Final = frozenset(
    {
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ErrorCode.NOT_CONTROLLER,
    }
)


class Line(Client):
    """One client's. Every error that may pass comes as None: ask again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._coordinators: dict[tuple[int, str], int] = {}
        self.calls.connections += 1
        self.connection = self.calls.connections

    def context(self, version: int) -> RequestContext:
        return RequestContext(
            listener=LISTENER, api_version=version, client_id=self.name, connection_id=self.connection, peer_host="c"
        )

    def late_s(self, api_key: ApiKey, version: int | None = None) -> float:
        """How much later than usual the next request arrives.

        Older clients' offsets are not late: without another epoch for each transaction nothing tells those of an older
        one that come over another connection apart, in Kafka either.
        """
        setting = self.checker.setting
        if api_key is ApiKey.TXN_OFFSET_COMMIT and version is not None:
            return 0.0
        part = setting.options.late_requests * (1.0 if api_key in OF_TRANSACTIONS else 0.1)
        if setting.healed or self.random.random() >= part:
            return 0.0
        setting.coverage.note("request late")
        return self.random.random() * LATEST_S

    def reconnect(self) -> None:
        """No answer came."""
        for host in self.hosts:
            self.calls.close(host, self.connection)
        self.calls.connections += 1
        self.connection = self.calls.connections

    async def ask(
        self, host: Host, api_key: ApiKey, request: Any, *, version: int | None = None, within_s: float = WITHIN_S
    ) -> Any | None:
        """The response; None when none came."""
        context = self.context(version if version is not None else VERSIONS[api_key][1])
        try:
            return await self.calls.ask(
                host, api_key, request, within_s=within_s, context=context, late_s=self.late_s(api_key, version)
            )
        except FAILURES as error:
            if isinstance(error, (Unanswered, Unreached)):
                self.reconnect()
            return None

    async def ask_coordinator(
        self,
        key_type: int,
        key: str,
        api_key: ApiKey,
        request: Any,
        *,
        version: int | None = None,
        within_s: float = WITHIN_S,
    ) -> Any | None:
        """Of a group or of a transactional id; None when there is none now, or no answer came."""
        node = self._coordinators.get((key_type, key)) or await self._find(key_type, key)
        if node is None:
            return None
        answer = await self.ask(self.hosts[node - 1], api_key, request, version=version, within_s=within_s)
        if answer is None:
            self.lost_coordinator(key_type, key)
        return answer

    def lost_coordinator(self, key_type: int, key: str) -> None:
        self._coordinators.pop((key_type, key), None)

    async def _find(self, key_type: int, key: str) -> int | None:
        request = FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key])
        answer = await self.ask(self.random.choice(self.hosts), ApiKey.FIND_COORDINATOR, request, within_s=3.0)
        if answer is None or answer.coordinators[0].error_code:
            return None
        node: int = answer.coordinators[0].node_id
        self._coordinators[key_type, key] = node
        return node
