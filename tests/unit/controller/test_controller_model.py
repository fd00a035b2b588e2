"""Random requests against a controller on a real journal, beside a model that keeps plain dictionaries."""

import asyncio
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.controller.controller import Controller
from ottla.controller.image import MetadataImage, ResourceType
from ottla.controller.requests import (
    AlterResource,
    ConfigChange,
    ConfigOperation,
    MorePartitions,
    NewTopic,
    TopicRef,
)
from ottla.testing.sim.files import SimFiles
from tests.unit.controller.cluster import NODE, registration
from tests.unit.raft.disk import LoopDisk
from tests.unit.raft.one_voter import one_voter

NAMES = ("a", "b", "c.d", "c_d")
Step = tuple[str, str, int]
Model = dict[str, tuple[int, dict[str, str]]]  # name → number of partitions, configs

steps = st.lists(
    st.tuples(
        st.sampled_from(("create", "delete", "grow", "set", "unset", "restart")),
        st.sampled_from(NAMES),
        st.integers(0, 5),
    ),
    max_size=30,
)


def expected(model: Model, step: Step) -> bool:
    """Whether the step succeeds; changes the model when it does."""
    action, name, number = step
    if action == "create":
        collides = {"c.d", "c_d"} <= {name, *model}
        if name in model or collides or number < 1:
            return False
        model[name] = (number, {})
        return True
    if name not in model:
        return False
    partitions, configs = model[name]
    if action == "delete":
        del model[name]
    elif action == "grow":
        if number <= partitions:
            return False
        model[name] = (number, configs)
    elif action == "set":
        configs["flush.ms"] = str(number)
    else:
        configs.pop("flush.ms", None)
    return True


async def perform(controller: Controller, step: Step) -> bool:
    action, name, number = step
    if action == "create":
        return (await controller.create_topics([NewTopic(name=name, partitions=number)]))[0].error is None
    if action == "delete":
        return (await controller.delete_topics([TopicRef(name=name)]))[0].error is None
    if action == "grow":
        return (await controller.create_partitions([MorePartitions(topic=name, count=number)]))[0][1] is None
    operation = ConfigOperation.SET if action == "set" else ConfigOperation.DELETE
    change = ConfigChange(name="flush.ms", operation=operation, value=str(number))
    resource = AlterResource(type=ResourceType.TOPIC, name=name, changes=[change])
    return (await controller.alter_configs([resource]))[0] is None


def state(image: MetadataImage) -> Model:
    return {
        name: (len(topic.partitions), dict(image.configs(ResourceType.TOPIC, name)))
        for name, topic in image.topics.items()
    }


async def open_controller(files: SimFiles) -> Controller:
    controller = Controller(NODE, random=Random(1), static_configs={})
    # A small limit, so that snapshots are taken on the way.
    controller.attach(await one_voter(LoopDisk(files), controller, snapshot_after_bytes=500))
    await controller.register_broker(registration(), ready=True)
    return controller


async def run(history: list[Step], together: int) -> None:
    files = SimFiles()
    controller = await open_controller(files)
    model: Model = {}
    for start in range(0, len(history), together):
        group = history[start : start + together]
        if any(action == "restart" for action, _, _ in group):
            files.crash(Random(len(history)))
            controller = await open_controller(files)
            group = [step for step in group if step[0] != "restart"]
        wanted = [expected(model, step) for step in group]
        # All at once: decided in this order, committed together.
        assert await asyncio.gather(*(perform(controller, step) for step in group)) == wanted
        assert state(controller.image) == model
        assert {topic.id for topic in controller.image.topics.values()} == set(controller.image.topics_by_id)
    again = await open_controller(files)
    assert state(again.image) == model
    assert {n: t.id for n, t in again.image.topics.items()} == {n: t.id for n, t in controller.image.topics.items()}


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(1, 6))
def test_a_controller_does_what_the_model_does_alone_together_and_after_crashes(
    history: list[Step], together: int
) -> None:
    asyncio.run(run(history, together))
