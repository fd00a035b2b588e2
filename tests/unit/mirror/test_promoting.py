"""Promotion of mirror topics and the way back, on clusters that are only told."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.client.errors import ClientError
from ottla.client.mirrors import MirrorTopic
from ottla.client.transport import EARLIEST_TIMESTAMP, ConfigChange
from ottla.client.types import ConfigResource, TopicPartition
from ottla.core.mirror_topics import COPYING, PROMOTING
from ottla.mirror.operations.observing import Observer
from ottla.mirror.operations.promoting import Diverged, promote, reverse

A_TOPIC = "cluster-a/topic-a/t"


class Cluster:
    """A side, its transport and its mirror calls in one: a topic of one partition whose log is [start, end)."""

    def __init__(self, name: str, start: int, end: int, **configs: str) -> None:
        self.cluster_id, self.start, self.end = f"cluster-{name}", start, end
        self.topics = {"t": SimpleNamespace(topic_id=f"topic-{name}", partitions=[0])}
        self.configs = dict(configs)
        self.transport = self.mirrors = self

    def topic_id(self, topic: str) -> str:
        return str(self.topics[topic].topic_id)

    def leader(self, _: TopicPartition) -> tuple[int, int]:
        return 1, 0

    async def offset_at(self, _: TopicPartition, timestamp: int, *, read_committed: bool) -> int:
        del read_committed
        return self.start if timestamp == EARLIEST_TIMESTAMP else self.end

    async def patiently(self, call: Callable[[], Awaitable[Any]], _: float = 0.0) -> Any:
        return await call()

    async def describe(self, topics: list[str]) -> dict[str, MirrorTopic]:
        configs = self.configs
        told = MirrorTopic(configs.get("source", ""), configs.get("state", COPYING), configs.get("promoted", ""))
        return dict.fromkeys(topics, told)

    async def alter_configs(self, changes: dict[ConfigResource, list[ConfigChange]], **_: Any) -> dict[Any, None]:
        for change in next(iter(changes.values())):
            name = change.key.removeprefix("ottla.mirror.")
            if change.value is None:
                self.configs.pop(name, None)
            else:
                self.configs[name] = change.value
        return dict.fromkeys(changes)

    async def end_mirror(self, *_: Any, **__: Any) -> Any:
        assert self.configs["state"] == PROMOTING
        return SimpleNamespace(log_end_offset=self.end, aborted_transactions=0)

    async def log_of(self, *_: Any) -> Any:
        return SimpleNamespace(log_end_offset=self.end)


def between(a: Cluster, b: Cluster) -> tuple[Observer, Any]:
    flow = SimpleNamespace(exact=True, source="a", target="b", name="a->b")
    config = SimpleNamespace(flow=lambda _: SimpleNamespace(exact=True, source="b", target="a", name="b->a"))
    return cast(Observer, SimpleNamespace(sides={"a": a, "b": b}, config=config, errors={})), flow


@pytest.mark.parametrize(("state", "end"), [(COPYING, 100), (PROMOTING, 40)])
async def test_the_note_of_a_promotion_counts_only_while_nothing_was_copied_since(state: str, end: int) -> None:
    """A promotion that died half way goes on with it; one that was taken back, and copied on, begins anew."""
    a, b = Cluster("a", 0, 120), Cluster("b", 0, 100, source=A_TOPIC, state=state, promoted=f"{A_TOPIC}@40")
    promotion = await promote(*between(a, b), "t", now=True, timeout_s=1)
    assert promotion.end_offsets == (end,)
    assert promotion.lost_records == {0: 120 - end}
    assert b.configs == {"promoted": f"{A_TOPIC}@{end}"}


async def test_an_old_source_that_went_on_is_diverged_though_it_holds_none_of_it_any_more() -> None:
    """Its log would go on where it ends, and leave out what the promoted topic has before."""
    a, b = Cluster("a", 500, 500), Cluster("b", 0, 900, promoted=f"{A_TOPIC}@100")
    with pytest.raises(Diverged, match="400 in partition 0"):
        await reverse(*between(a, b), "t", discard_diverged=False)
    assert not a.configs


async def test_nor_goes_an_empty_topic_of_the_same_name_on_where_it_ends() -> None:
    a, b = Cluster("other", 500, 500), Cluster("b", 0, 900, promoted=f"{A_TOPIC}@500")
    with pytest.raises(Diverged):
        await reverse(*between(a, b), "t", discard_diverged=False)
    assert not a.configs


@pytest.mark.parametrize(("start", "end"), [(0, 100), (100, 100), (0, 60)])
async def test_an_old_source_that_ends_where_the_promotion_happened_turns_in_place(start: int, end: int) -> None:
    a, b = Cluster("a", start, end), Cluster("b", 0, 900, promoted=f"{A_TOPIC}@100")
    assert (await reverse(*between(a, b), "t", discard_diverged=False)).in_place
    assert a.configs == {"source": "cluster-b/topic-b/t"}


async def test_what_a_promotion_left_that_was_ended_by_hand_does_not_stop_the_way_back() -> None:
    a, b = Cluster("a", 0, 100, state=PROMOTING), Cluster("b", 0, 900, promoted=f"{A_TOPIC}@100")
    assert (await reverse(*between(a, b), "t", discard_diverged=False)).in_place
    assert a.configs == {"source": "cluster-b/topic-b/t"}


B_TOPIC = "cluster-b/topic-b/t"


async def test_of_two_promotions_the_later_one_is_turned_round() -> None:
    """Each side was promoted once; what was written after the first promotion came back before the second."""
    a, b = Cluster("a", 0, 200, promoted=f"{B_TOPIC}@100"), Cluster("b", 0, 900, promoted=f"{A_TOPIC}@200")
    assert (await reverse(*between(a, b), "t", discard_diverged=False)).in_place
    assert a.configs == {"source": B_TOPIC}


async def test_a_source_that_was_promoted_since_is_not_deleted() -> None:
    a, b = Cluster("a", 0, 900, promoted=f"{B_TOPIC}@300"), Cluster("b", 0, 300, promoted=f"{A_TOPIC}@200")
    with pytest.raises(ClientError, match="reverse the flow b->a"):
        await reverse(*between(a, b), "t", discard_diverged=True)
    assert a.configs == {"promoted": f"{B_TOPIC}@300"}
