"""What a config's value is in the end, and where it comes from.

A topic's own value comes first, then the broker's dynamic one, the dynamic one of all brokers, the static one of the
broker's configuration, the default (Kafka's order). A cluster that was founded with several nodes has a few defaults of
its own, e.g. three replicas, which it keeps: they stand in its image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from ottla.controller.image import ALL_BROKERS, MetadataImage, ResourceType
from ottla.core.broker_configs import BROKER_CONFIGS
from ottla.core.config_fields import ConfigField, Synonym
from ottla.core.topic_configs import TOPIC_CONFIGS
from ottla.core.types import NodeId


class ConfigSource(IntEnum):
    """Kafka's numbers of where a value comes from (DescribeConfigs)."""

    UNKNOWN = 0
    DYNAMIC_TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


@dataclass(frozen=True, slots=True)
class SourcedValue:
    """One candidate: the key under which it was set, as it was set, and the same in the unit of the key asked for."""

    name: str
    raw: str | None
    source: ConfigSource
    value: str | None


class EffectiveConfigs:
    """The configs of one image as one broker sees them."""

    def __init__(self, image: MetadataImage, static: Mapping[str, str], node_id: NodeId) -> None:
        self._image, self._static, self._node_id = image, static, node_id
        self._broker_layers: Sequence[tuple[ConfigSource, Mapping[str, str]]] = (
            (ConfigSource.DYNAMIC_BROKER, image.configs(ResourceType.BROKER, str(node_id))),
            (ConfigSource.DYNAMIC_DEFAULT_BROKER, image.configs(ResourceType.BROKER, ALL_BROKERS)),
            (ConfigSource.STATIC_BROKER, static),
        )
        self._founded = image.default_configs
        self._topic_defaults: dict[str, str] | None = None

    def on(self, image: MetadataImage) -> "EffectiveConfigs":
        """The same broker's on another image."""
        return EffectiveConfigs(image, self._static, self._node_id)

    def broker_candidates(self, name: str) -> list[SourcedValue]:
        """Every value of a broker config, the one in force first."""
        return list(self._candidates(BROKER_CONFIGS[name], (Synonym(name),)))

    def topic_candidates(self, topic: str, name: str) -> list[SourcedValue]:
        """Every value of a topic config, the one in force first."""
        field = TOPIC_CONFIGS[name]
        own = self._image.configs(ResourceType.TOPIC, topic).get(name)
        first = [] if own is None else [SourcedValue(name, own, ConfigSource.DYNAMIC_TOPIC, own)]
        return [*first, *self._candidates(field, field.synonyms)]

    def broker_value(self, name: str) -> str | None:
        """The value of a broker config that is in force; None when it has none."""
        for _, layer in self._broker_layers:
            if name in layer:
                return layer[name]
        return self._default(name)

    def integer(self, name: str) -> int:
        """A broker config that is a whole number."""
        value = BROKER_CONFIGS[name].parse(self.broker_value(name) or "")
        assert isinstance(value, int)
        return value

    def number(self, name: str) -> float:
        """A broker config that is a number."""
        value = BROKER_CONFIGS[name].parse(self.broker_value(name) or "")
        assert isinstance(value, int | float)
        return float(value)

    def boolean(self, name: str) -> bool:
        """A broker config that is true or false."""
        return self.broker_value(name) == "true" or bool(BROKER_CONFIGS[name].parse(self.broker_value(name) or ""))

    def inherited(self, name: str) -> SourcedValue:
        """The value of a topic config that is in force for topics which do not set it."""
        field = TOPIC_CONFIGS[name]
        return next(self._candidates(field, field.synonyms))

    def topic_configs(self, topic: str) -> dict[str, str]:
        """All configs of a topic in force that are set anywhere; the others have their built-in defaults."""
        return {**self.topic_defaults(), **self._image.configs(ResourceType.TOPIC, topic)}

    def topic_defaults(self) -> Mapping[str, str]:
        """What brokers set for all topics that do not set it themselves."""
        if self._topic_defaults is None:
            self._topic_defaults = self._find_topic_defaults()
        return self._topic_defaults

    def _find_topic_defaults(self) -> dict[str, str]:
        layers = [layer for layer in (*(layer for _, layer in self._broker_layers), self._founded) if layer]
        if not layers:
            return {}
        defaults = {}
        for name, field in TOPIC_CONFIGS.items():
            for layer in layers:
                found = next((s.convert(layer[s.name]) for s in field.synonyms if s.name in layer), None)
                if found is not None:
                    defaults[name] = found
                    break
        return defaults

    def _default(self, name: str) -> str | None:
        return self._founded.get(name, BROKER_CONFIGS[name].default)

    def _candidates(self, field: ConfigField, names: Sequence[Synonym]) -> Iterator[SourcedValue]:
        for source, layer in self._broker_layers:
            for synonym in names:
                raw = layer.get(synonym.name)
                if raw is not None:
                    yield SourcedValue(synonym.name, raw, source, synonym.convert(raw))
        found = False
        for synonym in names:
            default = self._default(synonym.name) if synonym.name in BROKER_CONFIGS else None
            if default is not None:
                found = True
                yield SourcedValue(synonym.name, default, ConfigSource.DEFAULT, synonym.convert(default))
        if not found:
            yield SourcedValue(field.name, field.default, ConfigSource.DEFAULT, field.default)
