"""What nodes ask of each other in Kafka's messages: answered by the handlers, and never by a door."""

import asyncio
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.broker.control import asking
from ottla.broker.control.asking import Asking
from ottla.broker.control.calls import TICK_MS
from ottla.broker.transactions import grants
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.apis import ApiKey
from ottla.protocol.message import Message
from ottla.protocol.messages.metadata_request import MetadataRequest
from ottla.protocol.messages.write_txn_markers_request import WritableTxnMarker, WriteTxnMarkersRequest
from ottla.protocol.messages.write_txn_markers_response import WritableTxnMarkerResult, WriteTxnMarkersResponse
from ottla.testing.sim.clock import SimClock
from ottla.v1 import control_pb2 as pb
from tests.unit.broker.test_observing import ME, ONE, Net

REQUEST = WriteTxnMarkersRequest(markers=[WritableTxnMarker(producer_id=7)])

pytestmark = pytest.mark.interpreted  # a compiled `asking` calls no function that stands in another's place


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
        return Asking(cast(Any, SimpleNamespace(name=node)), calls, Random(node))

    def ask(self, node: NodeId, api_key: ApiKey = ApiKey.WRITE_TXN_MARKERS, request: Message = REQUEST) -> None:
        self.sides[ME].ask(node, api_key, 1, request, self.answers.append, timeout_ms=100)

    async def run(self, ms: float = 50.0) -> None:
        for _ in range(int(ms / 5)):
            await asyncio.sleep(0)
            self.clock.run_for(5)
        await asyncio.sleep(0)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    def take(broker: Any, _: int, request: WriteTxnMarkersRequest, done: Callable[[Any], None]) -> None:
        if not request.markers:
            raise ApiError(ErrorCode.INVALID_REQUEST, "no markers")
        numbers = (request.markers[0].producer_id, broker.name)
        done(WriteTxnMarkersResponse(markers=[WritableTxnMarkerResult(producer_id=one) for one in numbers]))

    monkeypatch.setattr(asking, "asked_of_node", lambda key: take)
    return Pair()


def shown(answers: list[Any]) -> list[Any]:
    return [one.code if isinstance(one, ApiError) else [m.producer_id for m in one.markers] for one in answers]


@pytest.mark.parametrize("node", [ME, ONE])
async def test_the_asked_node_answers_as_it_does_itself(pair: Pair, node: NodeId) -> None:
    pair.net.link(ME, ONE)
    pair.ask(node)
    assert pair.answers == []
    await pair.run()
    assert shown(pair.answers) == [[7, node]]


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
    await pair.run(20 + 2 * TICK_MS)
    assert shown(pair.answers) == [ErrorCode.NETWORK_EXCEPTION] * 2


class Straight:
    """The connections of replicas: what ME asks that way arrives when it is let through."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.is_open = True
        self.under_way: list[bytes] = []
        self.calls = pair.net.ends
        self.calls[ME].use(self)

    def send_message(self, node: NodeId, message: bytes) -> bool:
        if self.is_open:
            self.under_way.append(message)
        return self.is_open

    def arrive(self, message: bytes) -> None:
        self.calls[ONE].asked(ME, message, lambda answer: self.calls[ME].answered(ONE, answer))

    def end(self) -> None:
        self.is_open = False
        self.calls[ME].lost(ONE)


async def test_the_connections_of_replicas_are_taken_where_there_are_any(pair: Pair) -> None:
    straight = Straight(pair)
    pair.ask(ONE)
    straight.arrive(*straight.under_way)
    await pair.run()
    assert shown(pair.answers) == [[7, ONE]]

    straight.end()
    pair.net.link(ME, ONE)
    pair.ask(ONE)
    await pair.run()
    assert shown(pair.answers) == [[7, ONE]] * 2
    assert len(straight.under_way) == 1


async def test_a_question_ends_with_the_connection_that_carried_it_and_no_other(pair: Pair) -> None:
    straight = Straight(pair)
    pair.net.link(ME, ONE)
    pair.ask(ONE)
    pair.net.part(ME, ONE)
    await pair.run()
    assert pair.answers == []
    straight.end()
    await pair.run()
    assert shown(pair.answers) == [ErrorCode.NETWORK_EXCEPTION]


async def test_an_attempt_that_arrives_after_the_next_one_is_not_carried_out(pair: Pair) -> None:
    straight = Straight(pair)
    pair.net.link(ME, ONE)
    pair.ask(ONE)
    straight.end()
    pair.ask(ONE)  # over the mesh, while the first lies unread
    await pair.run()
    assert shown(pair.answers) == [ErrorCode.NETWORK_EXCEPTION, [7, ONE]]

    answers: list[pb.ControlFrame] = []
    pair.net.ends[ONE].asked(ME, straight.under_way[0], lambda frame: answers.append(pb.ControlFrame.FromString(frame)))
    assert [one.refusal.error_code for one in answers] == [ErrorCode.NETWORK_EXCEPTION]


async def test_a_grant_arrives_before_what_is_asked_after_it_or_not_at_all(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker that came another way may have ended the transaction of which a grant lies unread."""
    taken: list[int] = []
    monkeypatch.setattr(grants, "take", lambda _, told: taken.extend(one.producer_id for one in told))
    straight = Straight(pair)
    pair.net.link(ME, ONE)
    for number in (1, 2):
        pair.sides[ME].grant(ONE, [pb.ControlGrant(producer_id=number)])
    straight.arrive(straight.under_way[0])
    straight.end()
    pair.ask(ONE)
    await pair.run()
    assert shown(pair.answers) == [[7, ONE]]
    straight.arrive(straight.under_way[1])
    assert taken == [1]
    pair.sides[ME].grant(ONE, [pb.ControlGrant(producer_id=3)])  # nor over the mesh
    await pair.run()
    assert taken == [1]


async def test_only_what_is_asked_without_a_task_comes_over_the_connections_of_replicas(pair: Pair) -> None:
    answers: list[pb.ControlFrame] = []

    def keep(frame: bytes) -> None:
        answers.append(pb.ControlFrame.FromString(frame))

    calls = pair.net.ends[ONE]
    calls.asked(ME, pb.ControlFrame(call=5, beat=pb.ControlBeat()).SerializeToString(), keep)
    calls.asked(ME, b"\xff", keep)
    assert [(one.call, one.refusal.error_code) for one in answers] == [(5, ErrorCode.UNSUPPORTED_VERSION)]
