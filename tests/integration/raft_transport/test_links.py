"""Who finds whom, how long a link stands, and what ends it."""

import asyncio
import time
from functools import partial

import pytest
from structlog.testing import capture_logs

from ottla.core.types import NodeId
from ottla.raft.core.messages import Heartbeat
from tests.integration.raft_transport.nodes import (
    FAST,
    Node,
    Nodes,
    append,
    beat,
    connected,
    dialler_of,
    exchange,
    member,
    until,
)


async def test_three_nodes_that_all_dial_have_one_stream_for_each_pair(start: Nodes) -> None:
    nodes = [await start(number) for number in (1, 2, 3)]
    for node in nodes:
        node.reach(*nodes)
    await connected(*nodes)
    for one in nodes:
        for other in nodes:
            if one is not other:
                await exchange(one, other)
    await until(lambda: open_streams(*nodes) == 3)
    for node in nodes:
        assert {*node.connections} == {1, 2, 3} - {node.number}


def open_streams(*nodes: Node) -> int:
    return sum(len(node.transport._acceptor._tasks) for node in nodes)


async def test_when_both_dial_at_once_one_stream_survives_and_loses_nothing(start: Nodes) -> None:
    for _ in range(20):
        low, high = await start(1), await start(2)
        low.reach(high)
        high.reach(low)
        await until(partial(both_linked, low, high))
        for number in range(20):  # from the first moment on
            low.send(beat(1, 2, number))
            high.send(beat(2, 1, number))
        await connected(low, high)
        await until(partial(have_come, 20, low, high))
        for node in (low, high):
            assert [m.round for m in node.received if isinstance(m, Heartbeat)] == list(range(20))
        await until(partial(streams_left, 1, low, high))
        await low.stop()
        await high.stop()


def both_linked(*nodes: Node) -> bool:
    return all(node.links for node in nodes)


def have_come(count: int, *nodes: Node) -> bool:
    return all(len(node.received) == count for node in nodes)


def streams_left(count: int, *nodes: Node) -> bool:
    return open_streams(*nodes) == count


@pytest.mark.parametrize(("leader", "new"), [(1, 2), (2, 1)])
async def test_a_leader_reaches_a_member_that_knows_nobody(start: Nodes, leader: int, new: int) -> None:
    one, other = await start(leader), await start(new)
    other.transport.reach({})
    one.reach(other)
    await connected(one, other)
    await exchange(one, other)
    assert dialler_of(one, other) == leader


async def test_messages_of_one_turn_arrive_in_order(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    for number in range(2_000):
        one.send(beat(1, 2, number))
    await until(lambda: len(other.received) == 2_000)
    assert [message.round for message in other.received if isinstance(message, Heartbeat)] == list(range(2_000))


async def test_a_message_without_a_link_is_dropped(start: Nodes) -> None:
    one = await start(1)
    one.send(beat(1, 2))
    one.transport.reach({NodeId(2): ""})
    one.send(beat(1, 2))
    assert one.lost == []


async def test_a_peer_that_is_named_no_more_is_parted_from(start: Nodes) -> None:
    one, two, three = await start(1), await start(2), await start(3)
    one.reach(two, three)
    await connected(one, two)
    await connected(one, three)
    one.reach(three)
    assert set(one.links) == {3}
    await until(lambda: not two.links)
    await exchange(one, three)
    assert one.lost == []


@pytest.mark.parametrize(("own", "new"), [(1, 2), (2, 1)])
async def test_a_stream_that_another_dialled_outlives_not_being_named(start: Nodes, own: int, new: int) -> None:
    node, other = await start(own), await start(new)
    node.reach(other)
    other.transport.reach({})
    await connected(node, other)
    other.transport.reach({NodeId(3): ""})
    await exchange(node, other)
    assert set(other.links) == {own}
    assert node.lost == other.lost == []


async def test_a_peer_that_moved_is_found_at_its_new_place(start: Nodes) -> None:
    one, two = await start(1), await start(2)
    one.reach(two)
    await connected(one, two)
    await two.stop()
    moved = await start(2)
    assert moved.endpoint != two.endpoint
    one.reach(moved)
    await connected(one, moved)
    await exchange(one, moved)


async def test_nothing_listens_is_unreachable_and_tried_again(start: Nodes) -> None:
    one, gone = await start(1), await start(2)
    await gone.stop()
    one.reach(gone)
    await until(lambda: len(one.lost) >= 3)
    assert one.lost_nodes() == {2}


@pytest.mark.parametrize(("leader", "restarted"), [(1, 2), (2, 1)])
async def test_a_peer_that_restarts_is_reached_at_once(start: Nodes, leader: int, restarted: int) -> None:
    one, peer = await start(leader), await start(restarted)
    one.reach(peer)
    await connected(one, peer)
    await peer.stop()
    await until(lambda: bool(one.lost))
    await until(lambda: len(one.lost) >= 6)  # by now it waits as long as it ever does
    again = await start(restarted, port=int(peer.endpoint.rpartition(":")[2]))  # knows nobody
    listening = time.monotonic()
    await connected(one, again)
    assert time.monotonic() - listening < 1  # about 0.15 s; the machine may be busy
    await exchange(one, again)


async def test_a_receiver_that_fails_ends_no_link(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    other.raises = RuntimeError("a defect")
    with capture_logs() as logs:
        one.send(beat(1, 2, 1))
        one.send(beat(1, 2, 2))
        await until(lambda: len(other.received) == 2)
    assert [line["log_level"] for line in logs] == ["error", "error"]
    assert one.lost == []


async def test_a_node_that_stood_still_itself_gives_up_no_link(start: Nodes) -> None:
    one, other = await start(1, limits=FAST), await start(2, limits=FAST)
    one.reach(other)
    await connected(one, other)
    before = one.links
    time.sleep(1)  # noqa: ASYNC251  # the whole process, as when it is stopped for longer than silence is borne
    await exchange(one, other)
    await asyncio.sleep(0.2)
    assert one.links == before


async def test_links_without_messages_stay(start: Nodes) -> None:
    one, other = await start(1, limits=FAST), await start(2, limits=FAST)
    one.reach(other)
    await connected(one, other)
    before = one.links
    await asyncio.sleep(1)
    assert one.links == before
    assert other.links == {1: before[2]}


async def test_forged_messages_are_dropped_with_one_line(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    with capture_logs() as logs:
        for _ in range(3):
            one.send(Heartbeat(source=member(3), target=member(2), term=1, round=1, commit=0))
        one.transport._peers[NodeId(3)] = one.transport._peers[NodeId(2)]  # so that it goes the wrong way
        one.send(beat(1, 3))
        del one.transport._peers[NodeId(3)]
        one.send(beat(1, 2, 9))
        await until(lambda: len(other.received) == 1)
    assert other.received == [beat(1, 2, 9)]
    assert [line["detail"] for line in logs] == [
        f"from {member(3)} to {member(2)}, over the link of {member(1)} with node 2",
        f"from {member(1)} to {member(3)}, over the link of {member(1)} with node 2",
    ]


async def test_a_big_message_arrives_and_one_beyond_the_limit_is_not_sent(start: Nodes) -> None:
    one, other = await start(1), await start(2)
    one.reach(other)
    await connected(one, other)
    one.send(append(1, 2, 15 << 20))
    await until(lambda: len(other.received) == 1)
    assert other.received == [append(1, 2, 15 << 20)]
    with capture_logs() as logs:
        one.send(append(1, 2, 16 << 20))
    assert logs[0]["event"] == "a message of the quorum is too long and was not sent"
    await exchange(one, other)
