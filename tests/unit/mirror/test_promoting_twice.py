"""Two promotions of one topic at the same moment, through nodes of which some lag: they end in one history.

Whatever is decided is decided by the controller (`core.mirror_topics.why_no_step`); what a command reads may be old,
and so may be what a leader knows.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.mirrors import MirrorTopic
from ottla.client.transport import ConfigChange
from ottla.client.types import ConfigResource, TopicPartition
from ottla.core.mirror_topics import COPYING, MIRROR_STATE, PROMOTING, why_no_step
from ottla.mirror.operations.observing import Observer
from ottla.mirror.operations.promoting import Promotion, promote

SOURCE = "cluster-a/topic-a/t"
COPIED = 100  # the mirror's log ends there


class Target:
    """The cluster: the controller's configs, every one that there was, and the leader of the topic's partition."""

    def __init__(self, random: Random, **configs: str) -> None:
        self.random = random
        self.versions = [{f"ottla.mirror.{name}": value for name, value in configs.items()}]
        self.leader_heard = 0
        self.end = COPIED
        self.open_transactions = 2
        self.written = 0

    async def turn(self) -> None:
        """Others have theirs; meanwhile a leader may hear what was decided, and clients write where they may."""
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        if self.random.random() < 0.3:
            self.leader_heard = min(self.leader_heard + 1, len(self.versions) - 1)
        if "ottla.mirror.source" not in self.versions[self.leader_heard]:
            self.end += 1
            self.written += 1


class Door:
    """What one command sees of it: a side, its transport and its mirror calls in one."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._heard = 0  # as the node that is asked
        self.cluster_id = "cluster-b"
        self.topics = {"t": SimpleNamespace(topic_id="topic-b", partitions=[0])}
        self.transport = self.mirrors = self

    def topic_id(self, _: str) -> str:
        return "topic-b"

    def leader(self, _: TopicPartition) -> tuple[int, int]:
        return 1, 0

    async def refresh(self) -> None:
        await self._target.turn()

    async def patiently(self, call: Callable[[], Awaitable[Any]], _: float = 0.0) -> Any:
        for _ in range(1_000):
            try:
                return await call()
            except ClientError as error:
                if not error.retriable:
                    raise
                await self._target.turn()
        raise AssertionError("no end of it")

    async def describe(self, topics: list[str]) -> dict[str, MirrorTopic]:
        await self._target.turn()
        self._heard = self._target.random.randrange(self._heard, len(self._target.versions))
        found = self._target.versions[self._heard].get
        told = MirrorTopic(
            found("ottla.mirror.source", ""), found(MIRROR_STATE, COPYING), found("ottla.mirror.promoted", "")
        )
        await self._target.turn()
        return dict.fromkeys(topics, told)

    async def alter_configs(self, changes: dict[ConfigResource, list[ConfigChange]], **_: Any) -> dict[Any, Any]:
        await self._target.turn()
        before = self._target.versions[-1]
        after = dict(before)
        for change in next(iter(changes.values())):
            if change.value is None:
                after.pop(change.key, None)
            else:
                after[change.key] = change.value
        reason = why_no_step(before, after)
        if reason is None:
            self._target.versions.append(after)
        await self._target.turn()
        return dict.fromkeys(changes, None if reason is None else ClientError(ErrorCode.POLICY_VIOLATION, reason))

    async def end_mirror(self, _: int, mirror: Any, *, abort_transactions: bool, timeout_ms: int) -> Any:
        del timeout_ms
        await self._target.turn()
        target = self._target
        known = target.versions[target.leader_heard]
        if known.get("ottla.mirror.source") != mirror.source:
            raise ClientError(ErrorCode.POLICY_VIOLATION, "t is no mirror topic")
        if known.get(MIRROR_STATE) != PROMOTING:
            raise ClientError(ErrorCode.UNKNOWN_LEADER_EPOCH, "it has not heard")
        aborted = 0
        if abort_transactions:
            aborted, target.open_transactions = target.open_transactions, 0
            target.end += aborted  # markers
        end = target.end
        await target.turn()
        return SimpleNamespace(log_end_offset=end, aborted_transactions=aborted)


def promotion(target: Target) -> Awaitable[Promotion]:
    flow = SimpleNamespace(exact=True, source="a", target="b", name="a->b")
    observer = SimpleNamespace(sides={"b": Door(target)}, errors={})
    return promote(cast(Observer, observer), cast(Any, flow), "t", now=True, timeout_s=1)


@pytest.mark.parametrize("left", [{}, {"promoted": f"{SOURCE}@40"}, {"state": PROMOTING}], ids=str)
async def test_two_promotions_at_once_note_one_end_and_both_say_so(
    left: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`left`: by a promotion that was taken back, or died."""
    monkeypatch.setattr("ottla.mirror.operations.promoting._LOOK_S", 0.0)
    written = 0
    for seed in range(400):
        target = Target(Random(seed), source=SOURCE, **left)
        done = await asyncio.gather(promotion(target), promotion(target))
        assert target.versions[-1] == {"ottla.mirror.promoted": f"{SOURCE}@{COPIED}"}, seed
        assert {one.end_offsets for one in done} == {(COPIED,)}, seed
        assert target.open_transactions == 0, seed
        assert not all(one.was_promoted for one in done), seed
        written += target.written
    assert written > 0  # clients wrote while the later one was still at it
