"""The quorum's links as the mesh on which nodes ask each other things, on real sockets."""

import asyncio
from random import Random

import pytest

from ottla.adapters.clock import LoopClock
from ottla.broker.control.calls import Calls
from ottla.broker.control.listeners import LinkListener, Unreachable
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.v1 import control_pb2 as pb
from tests.integration.raft_transport.nodes import Node, until


class Links(LinkListener):
    """What a node hears of its links."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def linked(self, node: NodeId) -> None:
        self.told.append(("linked", node))

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        self.told.append(("broken" if broken else "unlinked", node))

    def refused(self, node: NodeId) -> None:
        self.told.append(("refused", node))


async def two() -> tuple[Node, Node, Calls, Calls, Links]:
    first, second = await Node(1).start(), await Node(2).start()
    links = Links()
    calls = [
        Calls(NodeId(n.number), n.transport, LoopClock(asyncio.get_running_loop()), Random()) for n in (first, second)
    ]
    calls[0].listen(links)
    for one in calls:
        one.start()
    first.transport.reach_also({NodeId(2): second.endpoint})
    await until(lambda: calls[0].is_linked(NodeId(2)) and calls[1].is_linked(NodeId(1)))
    return first, second, calls[0], calls[1], links


def question(text: str) -> pb.ControlFrame:
    return pb.ControlFrame(forward=pb.ControlForward(listener=text))


async def test_a_question_gets_its_own_answer_whoever_dialled() -> None:
    first, second, one, other, _ = await two()

    async def echo(node: NodeId, asked: pb.ControlFrame) -> pb.ControlFrame:
        await asyncio.sleep(0.05 if asked.forward.listener == "a" else 0)  # answers overtake each other
        return pb.ControlFrame(forwarded=pb.ControlForwarded(response=f"{node} {asked.forward.listener}".encode()))

    one.serve("forward", echo)
    other.serve("forward", echo)
    answers = await asyncio.gather(
        one.call(NodeId(2), question("a"), timeout_ms=5_000),
        one.call(NodeId(2), question("b"), timeout_ms=5_000),
        other.call(NodeId(1), question("c"), timeout_ms=5_000),
        one.call(NodeId(1), question("itself"), timeout_ms=5_000),
    )
    assert [answer.forwarded.response for answer in answers] == [b"1 a", b"1 b", b"2 c", b"1 itself"]
    await first.stop()
    await second.stop()


async def test_refusals_carry_kafkas_codes() -> None:
    first, second, one, other, _ = await two()

    async def refuse(node: NodeId, asked: pb.ControlFrame) -> pb.ControlFrame:
        raise ApiError(ErrorCode.NOT_CONTROLLER, "ask another")

    other.serve("forward", refuse)
    with pytest.raises(ApiError, match="ask another") as refused:
        await one.call(NodeId(2), question(""), timeout_ms=5_000)
    assert refused.value.code is ErrorCode.NOT_CONTROLLER
    with pytest.raises(ApiError, match="does not answer beat now"):
        await one.call(NodeId(2), pb.ControlFrame(beat=pb.ControlBeat()), timeout_ms=5_000)
    await first.stop()
    await second.stop()


async def test_calls_fail_when_the_link_ends_or_the_time_is_over_and_a_broken_link_is_told() -> None:
    first, second, one, other, links = await two()
    never = asyncio.Event()

    async def wait(node: NodeId, asked: pb.ControlFrame) -> pb.ControlFrame:
        await never.wait()
        return pb.ControlFrame()

    other.serve("forward", wait)
    with pytest.raises(Unreachable, match="no answer within 50 ms"):
        await one.call(NodeId(2), question(""), timeout_ms=50)
    waiting = asyncio.ensure_future(one.call(NodeId(2), question(""), timeout_ms=60_000))
    await asyncio.sleep(0.05)
    await second.stop()
    with pytest.raises(Unreachable, match="the connection to it broke"):
        await waiting
    await until(lambda: ("broken", 2) in links.told and ("refused", 2) in links.told)
    with pytest.raises(Unreachable, match="there is no connection to it"):
        await one.call(NodeId(2), question(""), timeout_ms=5_000)
    never.set()
    await first.stop()


async def test_a_call_is_given_up_when_its_answer_is_not_wanted_any_more() -> None:
    first, second, one, other, _ = await two()
    never = asyncio.Event()

    async def wait(node: NodeId, asked: pb.ControlFrame) -> pb.ControlFrame:
        await never.wait()
        return pb.ControlFrame()

    other.serve("forward", wait)
    asyncio.get_running_loop().call_later(0.05, lambda: setattr(first, "unwanted", True))
    with pytest.raises(Unreachable, match="not the one to ask any more"):
        await one.call_while(lambda: not hasattr(first, "unwanted"), NodeId(2), question(""), timeout_ms=60_000)
    never.set()
    await first.stop()
    await second.stop()


async def test_a_stream_goes_on_until_its_link_ends() -> None:
    first, second, one, other, _ = await two()
    received: list[int | None] = []

    async def observe(node: NodeId, asked: pb.ControlFrame) -> None:
        for index in range(3):
            other.push(node, pb.ControlFrame(call=asked.call, observed=pb.ControlObserved(index=index)))

    other.serve_stream("observe", observe)
    one.stream(
        NodeId(2),
        pb.ControlFrame(observe=pb.ControlObserve()),
        lambda frame: received.append(frame.observed.index if frame is not None else None),
    )
    await until(lambda: received == [0, 1, 2])
    await second.stop()
    await until(lambda: received == [0, 1, 2, None])
    await first.stop()
