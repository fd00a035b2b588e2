"""FindCoordinator while a coordinator has no leader: it waits a moment for one."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.broker import find_coordinator
from ottla.broker.find_coordinator import KeyType
from ottla.controller.image import NO_LEADER, BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage
from ottla.core.errors import ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from tests.unit.broker.one_broker import LISTENER, context

ME = NodeId(1)
STATE = "__transaction_state"


class Cluster:
    """What of a broker is asked: its image, and a controller that has made the topic."""

    def __init__(self) -> None:
        self.configs = SimpleNamespace(integer=lambda _: 1)
        self.controller = SimpleNamespace(ensure_internal_topic=self._ensure)
        broker = BrokerImage(ME, 1, Uuid(bytes(16)), {LISTENER: Endpoint("here", 9092)})
        self.image = MetadataImage(brokers={ME: broker})
        self.lead(NO_LEADER)

    async def _ensure(self, name: str, **_: Any) -> TopicImage:
        return self.image.topics[name]

    def lead(self, leader: NodeId) -> None:
        topic = TopicImage(STATE, Uuid(b"t" * 16), (PartitionImage(0, leader, 1, (ME,), (ME,)),))
        self.image = replace(self.image, topics={STATE: topic})

    async def ask(self) -> Any:
        request = FindCoordinatorRequest(key="id", key_type=KeyType.TRANSACTION)
        return await find_coordinator.find_coordinator(self, request, context(3))  # type: ignore[arg-type]


async def test_the_leader_that_is_elected_meanwhile_is_told() -> None:
    cluster = Cluster()
    asking = asyncio.create_task(cluster.ask())
    await asyncio.sleep(0)
    cluster.lead(ME)
    answer = await asking
    assert (answer.error_code, answer.node_id, answer.host) == (ErrorCode.NONE, ME, "here")


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_coordinator, "PATIENCE_S", 0.1)
    answer = await Cluster().ask()
    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
