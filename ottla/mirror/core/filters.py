"""Which topics, groups and configs a flow takes: lists of names and regular expressions, as MirrorMaker 2 reads them.

An expression must match the whole name. Exclusions win.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from ottla.core.errors import ConfigError
from ottla.mirror.core.policy import ReplicationPolicy

DEFAULT_TOPICS: Final = (".*",)
DEFAULT_TOPICS_EXCLUDE: Final = (r"mm2.*\.internal", r".*[\-\.]internal", r".*\.replica", r"__.*")
DEFAULT_GROUPS: Final = (".*",)
DEFAULT_GROUPS_EXCLUDE: Final = ("console-consumer-.*", "connect-.*", "__.*")
DEFAULT_CONFIGS_EXCLUDE: Final = (
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "message.timestamp.difference.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.after.max.ms",
    "message.timestamp.type",
    "unclean.leader.election.enable",
    "min.insync.replicas",
)


@dataclass(frozen=True, slots=True)
class NameFilter:
    """Names that match one of `include` and none of `exclude`. ConfigError for what is no regular expression."""

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    _include: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)
    _exclude: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_include", _compile(self.include))
        object.__setattr__(self, "_exclude", _compile(self.exclude))

    def takes(self, name: str) -> bool:
        """Whether the name is one of those."""
        return any(pattern.fullmatch(name) for pattern in self._include) and not any(
            pattern.fullmatch(name) for pattern in self._exclude
        )

    def unmatched(self, names: Collection[str]) -> list[str]:
        """What is to be included, and is none of these names."""
        return [
            word
            for word, pattern in zip(self.include, self._include, strict=True)
            if not any(pattern.fullmatch(name) for name in names)
        ]


def _compile(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise ConfigError(f"{pattern!r} is no regular expression: {error}") from None
    return tuple(compiled)


def takes_topic(
    topic: str, *, topics: NameFilter, policy: ReplicationPolicy, target_alias: str, replicate_heartbeats: bool = True
) -> bool:
    """Whether a flow copies this topic of its source: chosen, not internal, and no copy of one of the target's.

    Heartbeats (and their copies) pass whatever the filter says, unless `replicate_heartbeats` is off.
    """
    if policy.is_internal_topic(topic) or policy.is_cycle(topic, target_alias):
        return False
    if replicate_heartbeats and policy.is_heartbeats_topic(topic):
        return True
    return topics.takes(topic)
