"""What a node's replicas are told of the metadata image."""

from collections.abc import Iterable
from typing import Any, cast

import pytest

from ottla.broker.local_partitions import LocalPartitions
from ottla.controller.image import MetadataImage, PartitionImage, TopicImage
from ottla.core.types import NodeId, Uuid
from ottla.partitions.replication.types import Assignment

ME, OTHER = NodeId(1), NodeId(2)


class Fakes:
    """The partition manager, the replica manager and the configs, as far as they are asked here."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []

    def create(self, *_: Any, **__: Any) -> None: ...

    def get(self, *_: Any) -> None: ...

    def follow(self, assignments: Iterable[Assignment], *_: Any, **__: Any) -> None:
        self.assignments += assignments

    def topic_configs(self, topic: str) -> dict[str, str]:
        del topic
        return {}


@pytest.mark.parametrize(("adding", "factor"), [((), 2), ((OTHER,), 1)])
@pytest.mark.interpreted
def test_a_leader_is_told_of_how_many_replicas_there_are_to_be(adding: tuple[NodeId, ...], factor: int) -> None:
    removing = (ME,) if adding else ()
    partition = PartitionImage(
        index=0, leader=ME, leader_epoch=1, replicas=(OTHER, ME), isr=(ME,), adding=adding, removing=removing
    )
    image = MetadataImage(topics={"t": TopicImage(name="t", id=Uuid(bytes(16)), partitions=(partition,))})
    fakes = Fakes()
    LocalPartitions(ME, cast(Any, fakes), cast(Any, fakes)).open(image, cast(Any, fakes))
    assert [one.replication_factor for one in fakes.assignments] == [factor]
