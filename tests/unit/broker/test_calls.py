"""Questions between nodes: whose answer is whose."""

import asyncio
from random import Random
from typing import Any, cast

from ottla.broker.control.calls import Calls
from ottla.core.types import NodeId
from ottla.testing.sim.clock import SimClock
from ottla.v1 import control_pb2 as pb

ME, OTHER = NodeId(1), NodeId(2)


class Wire:
    """A mesh that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[pb.ControlFrame] = []

    def attach(self, events: object) -> None: ...

    def is_linked(self, node: NodeId) -> bool:
        return node == OTHER

    def send_frame(self, node: NodeId, frame: bytes) -> bool:
        self.sent.append(pb.ControlFrame.FromString(frame))
        return True


def registered(call: int, epoch: int) -> bytes:
    return pb.ControlFrame(call=call, registered=pb.ControlRegistered(broker_epoch=epoch)).SerializeToString()


async def test_an_answer_to_a_former_process_of_this_node_is_not_taken_for_a_later_one_s() -> None:
    wire = Wire()
    former, later = (Calls(ME, cast(Any, wire), SimClock(), Random(life)) for life in (1, 2))
    asked = []
    for calls in (former, later):
        question = pb.ControlFrame(register=pb.ControlRegister())
        asked.append(asyncio.ensure_future(calls.call(OTHER, question, timeout_ms=1000)))
        await asyncio.sleep(0)
    first, second = (frame.call for frame in wire.sent)
    later.received(OTHER, registered(first, 1))
    await asyncio.sleep(0)
    assert not asked[1].done()
    later.received(OTHER, registered(second, 2))
    assert (await asked[1]).registered.broker_epoch == 2
    asked[0].cancel()
