"""What Metadata tells of a broker whose link broke, and of one that was fenced a moment ago."""

import asyncio
from dataclasses import replace
from itertools import pairwise

from ottla.broker.departures import DOUBTED_MS, SHOWN_MS, STARTLED_MS, Departures
from ottla.broker.metadata import CONTENT_MS, metadata
from ottla.controller.features import SUPPORTED_FEATURES
from ottla.controller.image import BrokerImage, Endpoint, MetadataImage
from ottla.controller.requests import BrokerRegistration
from ottla.core.types import NodeId, Uuid
from ottla.protocol.messages.metadata_request import MetadataRequest
from ottla.testing.sim.clock import SimClock
from tests.unit.broker.one_broker import LISTENER, NODE, context, start_broker

OTHER = NodeId(3)
LISTENERS = {LISTENER: Endpoint("other.example", 9092)}
ALIVE = BrokerImage(id=OTHER, epoch=1, incarnation_id=Uuid(b"x" * 16), listeners=LISTENERS)
FENCED = replace(ALIVE, fenced=True)


def image(broker: BrokerImage | None) -> MetadataImage:
    return MetadataImage(brokers={} if broker is None else {OTHER: broker})


def seen(clock: SimClock, *states: BrokerImage | None) -> Departures:
    departures = Departures(clock)
    for before, after in pairwise(states):
        departures.follow(image(before), image(after), [OTHER])
    return departures


def test_a_fenced_broker_is_recent_for_a_while_and_then_not() -> None:
    clock = SimClock()
    departures = seen(clock, None, ALIVE, FENCED)
    assert departures.is_recent(OTHER)
    clock.run_for(SHOWN_MS - 1)
    assert departures.is_recent(OTHER)
    clock.run_for(1)
    assert not departures.is_recent(OTHER)


def test_only_the_step_from_alive_to_fenced_counts() -> None:
    clock = SimClock()
    assert not seen(clock, None, FENCED).is_recent(OTHER)  # as this node found it at its start
    assert not seen(clock, ALIVE, FENCED, ALIVE).is_recent(OTHER)
    assert not seen(clock, ALIVE, FENCED, None).is_recent(OTHER)
    departures = seen(clock, ALIVE, FENCED)
    clock.run_for(SHOWN_MS)
    departures.follow(image(FENCED), image(replace(FENCED, epoch=2)), [OTHER])
    assert not departures.is_recent(OTHER)


async def test_metadata_names_a_broker_that_was_alive_a_moment_ago() -> None:
    broker = await start_broker()
    await broker.controller.local.register_broker(
        BrokerRegistration(
            broker_id=OTHER, incarnation_id=ALIVE.incarnation_id, listeners=LISTENERS, features=SUPPORTED_FEATURES
        )
    )

    async def named() -> list[int]:
        answer = await metadata(broker, MetadataRequest(topics=[]), context(13))
        assert answer.live_brokers == {NODE}  # its replicas are offline at once
        return [one.node_id for one in answer.response.brokers]

    assert await named() == [NODE]
    broker.departures.follow(image(ALIVE), broker.image, [OTHER])
    assert await named() == [NODE, OTHER]


def test_a_broker_is_doubtful_from_the_break_of_its_link_until_it_is_linked_again_or_for_a_while() -> None:
    clock = SimClock()
    departures = Departures(clock)
    departures.unlinked(OTHER, broken=False)  # e.g. replaced by another link
    assert not departures.is_doubtful(OTHER)
    departures.unlinked(OTHER, broken=True)
    assert departures.is_doubtful(OTHER)
    departures.linked(OTHER)
    assert not departures.is_doubtful(OTHER)
    departures.unlinked(OTHER, broken=True)
    clock.run_for(DOUBTED_MS - 1)
    assert departures.is_doubtful(OTHER)
    clock.run_for(1)
    assert not departures.is_doubtful(OTHER)


def test_a_broker_is_doubtful_for_a_moment_after_its_connection_ended() -> None:
    clock = SimClock()
    departures = Departures(clock)
    departures.lost(OTHER)
    assert departures.is_doubtful(OTHER)
    clock.run_for(STARTLED_MS)
    assert not departures.is_doubtful(OTHER)


async def test_metadata_calls_a_doubtful_broker_offline_and_goes_on_naming_it() -> None:
    broker = await start_broker()
    broker.image = image(ALIVE)

    async def live() -> frozenset[NodeId]:
        answer = await metadata(broker, MetadataRequest(topics=[]), context(13))
        assert [one.node_id for one in answer.response.brokers] == [OTHER]
        return answer.live_brokers

    assert await live() == {OTHER}
    broker.departures.unlinked(OTHER, broken=True)
    assert await live() == frozenset()


async def test_who_asks_after_a_while_is_told_what_was_learnt_meanwhile() -> None:
    broker = await start_broker()
    broker.image = replace(broker.image, brokers={NODE: replace(ALIVE, id=NODE), OTHER: ALIVE})
    asker = replace(context(13), content_since_ms=broker.clock.monotonic_ms())

    async def live_while_its_link_breaks() -> frozenset[NodeId]:
        broker.departures.linked(OTHER)
        asyncio.get_running_loop().call_soon(lambda: broker.departures.unlinked(OTHER, broken=True))
        return (await metadata(broker, MetadataRequest(topics=[]), asker)).live_brokers

    assert await live_while_its_link_breaks() == {NODE, OTHER}
    await asyncio.sleep(0)
    assert asker.content_since_ms is not None
    asker.content_since_ms -= CONTENT_MS + 1
    assert await live_while_its_link_breaks() == {NODE}
    assert await live_while_its_link_breaks() == {NODE, OTHER}  # it is answered at once again


async def test_metadata_names_as_controller_one_that_the_client_can_reach() -> None:
    broker = await start_broker()
    stopping = replace(ALIVE, id=NODE, in_controlled_shutdown=True)
    elsewhere = replace(ALIVE, id=NodeId(2), listeners={"INSIDE": Endpoint("10.0.0.2", 9093)})

    async def controller(*others: BrokerImage) -> int:
        broker.image = replace(broker.image, brokers={one.id: one for one in (stopping, *others)})
        return (await metadata(broker, MetadataRequest(topics=[]), context(13))).response.controller_id

    assert await controller(elsewhere, ALIVE) == OTHER
    assert await controller(elsewhere) == NODE
