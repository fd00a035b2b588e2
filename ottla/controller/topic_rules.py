"""The configs of a topic on which the choice of leaders rests, found fast for ten thousand topics."""

from collections.abc import Mapping
from dataclasses import dataclass

from ottla.controller.effective import EffectiveConfigs
from ottla.controller.image import MetadataImage, ResourceType
from ottla.core.config_fields import Value
from ottla.core.topic_configs import TOPIC_CONFIGS

MIN_ISR = "min.insync.replicas"
UNCLEAN = "unclean.leader.election.enable"
FLUSH_ON_ACK = "ottla.flush.on.ack"
_NAMES = (MIN_ISR, UNCLEAN, FLUSH_ON_ACK)

RULE_CONFIGS = frozenset(_NAMES)
"""The keys of topics, and of brokers for all topics, whose change may change leaders or eligible replicas."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one topic. `durable`: an acknowledged record is on stable storage, so no crash takes it from a replica."""

    min_isr: int = 1
    unclean: bool = False
    durable: bool = True

    def least_isr(self, replication_factor: int) -> int:
        """How many in-sync replicas a partition needs for records to be committed; never more than it is to have."""
        return min(self.min_isr, replication_factor)


class TopicRules:
    """The rules of every topic of one image."""

    def __init__(self, image: MetadataImage, configs: EffectiveConfigs) -> None:
        self._image, self._configs = image, configs
        self._defaults: dict[str, str] | None = None
        self._inherited = Rules()
        self._known: dict[tuple[str, ...], Rules] = {}

    def of(self, topic: str) -> Rules:
        """The same object for all topics with the same rules."""
        if self._defaults is None:
            inherited = self._configs.topic_defaults()
            self._defaults = {name: inherited.get(name) or TOPIC_CONFIGS[name].default or "" for name in _NAMES}
            self._inherited = self._with({})
        own = self._image.resource_configs.get((ResourceType.TOPIC, topic))
        return self._inherited if own is None else self._with(own)

    def _with(self, own: Mapping[str, str]) -> Rules:
        defaults = self._defaults or {}
        key = tuple([own.get(name) or defaults[name] for name in _NAMES])
        rules = self._known.get(key)
        if rules is None:
            rules = self._known[key] = _parse(dict(zip(_NAMES, key, strict=True)))
        return rules


def _parse(texts: Mapping[str, str]) -> Rules:
    def value(name: str) -> Value:
        return TOPIC_CONFIGS[name].parse(texts[name])

    min_isr = value(MIN_ISR)
    assert isinstance(min_isr, int)
    return Rules(min_isr, value(UNCLEAN) is True, value(FLUSH_ON_ACK) is True)
