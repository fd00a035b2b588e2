"""What nodes ask of each other in Kafka's messages: answered by the handlers, and never by a door."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.context import RequestContext
from ottla.broker.control import asking
from ottla.broker.control.asking import Asking
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.apis import ApiKey
from ottla.protocol.message import Message
from ottla.protocol.messages.metadata_request import MetadataRequest
from ottla.protocol.messages.write_txn_markers_request import WritableTxnMarker, WriteTxnMarkersRequest
from ottla.protocol.messages.write_txn_markers_response import WritableTxnMarkerResult, WriteTxnMarkersResponse
from ottla.testing.sim.clock import SimClock
from tests.unit.broker.test_observing import ME, ONE, Net

REQUEST = WriteTxnMarkersRequest(markers=[WritableTxnMarker(producer_id=7)])


class Pair:
    """ME asks ONE."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.net = Net(self.clock)
        self.sides = {node: self.side(node) for node in (ME, ONE)}
        self.answers: list[Any] = []

    def side(self, node: NodeId) -> Asking:
        calls = self.net.calls(node)
        calls.start()
        return Asking(cast(Any, SimpleNamespace(name=node)), calls)

    def ask(self, node: NodeId, api_key: ApiKey = ApiKey.WRITE_TXN_MARKERS, request: Message = REQUEST) -> None:
        self.sides[ME].ask(node, api_key, 1, request, self.answers.append, timeout_ms=100)

    async def run(self, ms: float = 50.0) -> None:
        for _ in range(int(ms / 5)):
            await asyncio.sleep(0)
            self.clock.run_for(5)
        await asyncio.sleep(0)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    async def handle(broker: Any, request: WriteTxnMarkersRequest, context: RequestContext) -> WriteTxnMarkersResponse:
        if context.node is None:
            raise ApiError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
        if not request.markers:
            raise ApiError(ErrorCode.INVALID_REQUEST, "no markers")
        numbers = (request.markers[0].producer_id, context.node, broker.name)
        return WriteTxnMarkersResponse(markers=[WritableTxnMarkerResult(producer_id=one) for one in numbers])

    monkeypatch.setattr(asking, "handler", lambda key: handle)
    return Pair()


def shown(answers: list[Any]) -> list[Any]:
    return [one.code if isinstance(one, ApiError) else [m.producer_id for m in one.markers] for one in answers]


@pytest.mark.parametrize("node", [ME, ONE])
async def test_the_asked_node_answers_by_its_handler_and_knows_who_asks(pair: Pair, node: NodeId) -> None:
    pair.net.link(ME, ONE)
    pair.ask(node)
    assert pair.answers == []
    await pair.run()
    assert shown(pair.answers) == [[7, ME, node]]


async def test_a_refusal_is_the_asked_nodes_error(pair: Pair) -> None:
    pair.net.link(ME, ONE)
    pair.ask(ONE, request=WriteTxnMarkersRequest())
    await pair.run()
    assert shown(pair.answers) == [ErrorCode.INVALID_REQUEST]


async def test_only_what_is_a_matter_between_nodes_is_answered(pair: Pair) -> None:
    pair.net.link(ME, ONE)
    pair.ask(ONE, ApiKey.METADATA, MetadataRequest())
    pair.ask(ME, ApiKey.METADATA, MetadataRequest())
    await pair.run()
    assert shown(pair.answers) == [ErrorCode.UNSUPPORTED_VERSION] * 2


async def test_without_a_link_and_without_an_answer_in_time_the_asker_is_told(pair: Pair) -> None:
    pair.ask(ONE)
    await pair.run()
    pair.net.link(ME, ONE)
    pair.net.ends[ONE] = SimpleNamespace(received=lambda node, frame: None)
    pair.ask(ONE)
    await pair.run(80)
    assert shown(pair.answers) == [ErrorCode.NETWORK_EXCEPTION]
    await pair.run(40)
    assert shown(pair.answers) == [ErrorCode.NETWORK_EXCEPTION] * 2
