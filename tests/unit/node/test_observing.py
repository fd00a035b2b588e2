"""Every pair of nodes is linked: also two of which neither votes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ottla.controller.image import Endpoint, MetadataDelta, MetadataImage
from ottla.core.types import ZERO_UUID, NodeId
from ottla.node.observing import Observing
from ottla.raft.quorum import Member, Membership
from tests.unit.controller.cluster import image_of, register, registration

VOTER = Member(NodeId(1), ZERO_UUID)


def internal_of(*nodes: int) -> MetadataImage:
    image = MetadataImage()
    for node in nodes:
        broker = replace(registration(node), internal=Endpoint(f"host{node}", 7000))
        image = image_of(register(image, broker).records, base=image)
    return image


def test_brokers_that_do_not_vote_are_reached_where_the_image_says(tmp_path: Path) -> None:
    reached: list[Mapping[NodeId, str]] = []
    subscribers: list[Any] = []
    controller = SimpleNamespace(image=MetadataImage(), subscribe=subscribers.append)
    raft = SimpleNamespace(membership=Membership(frozenset([VOTER]), endpoints={VOTER: "voter:1"}))
    mesh = SimpleNamespace(reach_also=reached.append)
    arguments = cast(Any, (raft, controller, None, mesh, tmp_path, {NodeId(3): "configured:3"}))
    Observing(*arguments)
    image = internal_of(1, 2, 3)
    subscribers[0](image, MetadataDelta(brokers=frozenset(image.brokers)))
    subscribers[0](image, MetadataDelta(brokers=frozenset(image.brokers)))
    assert reached == [
        {NodeId(3): "configured:3"},
        {NodeId(2): "host2:7000", NodeId(3): "configured:3"},
    ]
