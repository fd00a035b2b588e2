"""What a mirror asks of an Ottla cluster about mirror topics: the types, and the port that a transport implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ottla.core.types import Buffer


class MirrorPartition(NamedTuple):
    """A partition of a mirror topic, which the asked node leads."""

    topic_id: str
    partition: int
    source: str  # what it mirrors, as in `ottla.mirror.source`


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorLog:
    """How a partition's log stands."""

    log_start_offset: int
    high_watermark: int
    log_end_offset: int
    aborted_transactions: int


class MirrorTopic(NamedTuple):
    """What a topic's configs say of it as a mirror, empty where they say nothing (`ottla.core.mirror_topics`)."""

    source: str
    state: str
    promoted: str


class MirrorCalls(Protocol):
    """Calls go to the partition's leader. They raise ClientError; POLICY_VIOLATION: it is no mirror of the source."""

    async def describe(self, topics: Sequence[str]) -> dict[str, MirrorTopic]:
        """Of these topics, as any node knows them; those that do not exist are left out."""

    async def log_of(self, node_id: int, mirror: MirrorPartition) -> MirrorLog:
        """How the log stands."""

    async def append(
        self,
        node_id: int,
        mirror: MirrorPartition,
        batches: Buffer,
        *,
        expected_end_offset: int,
        log_start_offset: int,
        begin_at: int | None,
        timeout_ms: int,
    ) -> MirrorLog:
        """Continue the log with batches of the source as they are; committed when this returns.

        `begin_at`: the source has nothing before, so the log begins anew there. OFFSET_OUT_OF_RANGE when the log does
        not end at `expected_end_offset`.
        """

    async def end_mirror(
        self, node_id: int, mirror: MirrorPartition, *, abort_transactions: bool, timeout_ms: int
    ) -> MirrorLog:
        """A step of a promotion (`ottla.mirror.state` is `promoting`): all is committed when this returns."""
