"""How one configuration key is defined: type, unit, default, what is allowed, what it is for.

The keys themselves are in `topic_configs` and `broker_configs`: under Kafka's names, or `ottla.*` where it has none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from math import isfinite
from typing import Final

from ottla.core.errors import ConfigError

Value = bool | int | float | str | list[str]

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


class ConfigType(IntEnum):
    """Kafka's numbers of config types (DescribeConfigs)."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class UpdateMode(Enum):
    """Whether a broker config can be changed while the broker runs, and for whom."""

    READ_ONLY = "read-only"
    PER_BROKER = "per-broker"  # for one broker, or for all of them
    CLUSTER_WIDE = "cluster-wide"  # likewise; meant to be the same everywhere


@dataclass(frozen=True, slots=True)
class Synonym:
    """A broker config that serves as a topic config's default, in `factor` times the topic config's unit."""

    name: str
    factor: int = 1

    def convert(self, text: str) -> str:
        """The broker config's value in the topic config's unit; a negative value means the same in every unit."""
        text = text.strip()
        return text if self.factor == 1 or int(text) < 0 else str(int(text) * self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigField:
    """One key."""

    name: str
    type: ConfigType
    default: str | None
    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    sensitive: bool = False
    update_mode: UpdateMode = UpdateMode.READ_ONLY
    synonyms: tuple[Synonym, ...] = ()
    check: Callable[[str], str | None] | None = None  # what is wrong with a value of the right type

    def parse(self, text: str) -> Value:
        """`text` as a value of this key. Raises ConfigError that names the key and what is allowed."""
        try:
            value = _PARSERS[self.type](text.strip())
        except ValueError:
            raise self._refuse(text) from None
        if isinstance(value, int | float) and not isinstance(value, bool):
            low = self.minimum if self.minimum is not None else _LOWEST.get(self.type, float("-inf"))
            high = self.maximum if self.maximum is not None else _HIGHEST.get(self.type, float("inf"))
            if not low <= value <= high:
                raise self._refuse(text)
        if self.choices:
            values = value if isinstance(value, list) else [value]
            if any(one not in self.choices for one in values) or len(set(values)) != len(values):
                raise self._refuse(text)
        if self.check is not None and (problem := self.check(text.strip())):
            raise ConfigError(f"Invalid value {text!r} for configuration {self.name}: {problem}")
        return value

    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.choices:
            among = ", ".join(self.choices)
            return f"any of {among}, comma-separated" if self.type is ConfigType.LIST else f"one of {among}"
        if self.type not in _LOWEST and self.type is not ConfigType.DOUBLE:
            return _WORDS[self.type]
        limits = []
        if self.minimum is not None:
            limits.append(f"at least {self.minimum:g}" if self.minimum < 1e6 else f"at least {int(self.minimum)}")
        if self.maximum is not None:
            limits.append(f"at most {self.maximum:g}" if self.maximum < 1e6 else f"at most {int(self.maximum)}")
        unit = f" ({self.unit})" if self.unit else ""
        return " ".join([_WORDS[self.type] + unit, " and ".join(limits)]).strip()

    def _refuse(self, text: str) -> ConfigError:
        return ConfigError(f"Invalid value {text!r} for configuration {self.name}: allowed is {self.allowed()}.")


class ConfigFields(Mapping[str, ConfigField]):
    """All keys of one kind of resource, by name."""

    def __init__(self, kind: str, fields: Iterable[ConfigField]) -> None:
        self._kind = kind
        self._fields = {field.name: field for field in fields}

    def __getitem__(self, name: str) -> ConfigField:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def required(self, name: str) -> ConfigField:
        """The key; raises ConfigError when there is none of that name."""
        field = self._fields.get(name)
        if field is None:
            raise ConfigError(f"Unknown {self._kind} config name: {name}")
        return field

    def parse(self, name: str, text: str) -> Value:
        """`text` as a value of the key `name`. Raises ConfigError for an unknown name or a wrong value."""
        return self.required(name).parse(text)

    def validate(self, configs: Mapping[str, str]) -> None:
        """Every name known and every value allowed. Raises ConfigError for the first that is not."""
        for name, text in configs.items():
            self.parse(name, text)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _no()


def _no() -> bool:
    raise ValueError


def _integer(text: str) -> int:
    if not text.removeprefix("-").removeprefix("+").isdecimal() or not text.isascii():
        raise ValueError  # int() also takes underscores and other scripts' digits
    return int(text)


def _double(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError
    return value


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


_PARSERS: Final[Mapping[ConfigType, Callable[[str], Value]]] = {
    ConfigType.BOOLEAN: _boolean,
    ConfigType.STRING: str,
    ConfigType.INT: _integer,
    ConfigType.SHORT: _integer,
    ConfigType.LONG: _integer,
    ConfigType.DOUBLE: _double,
    ConfigType.LIST: _list,
    ConfigType.CLASS: str,
    ConfigType.PASSWORD: str,
}
_LOWEST: Final[Mapping[ConfigType, int]] = {
    ConfigType.SHORT: -(2**15),
    ConfigType.INT: -INT_MAX - 1,
    ConfigType.LONG: -LONG_MAX - 1,
}
_HIGHEST: Final[Mapping[ConfigType, int]] = {
    ConfigType.SHORT: 2**15 - 1,
    ConfigType.INT: INT_MAX,
    ConfigType.LONG: LONG_MAX,
}
_WORDS: Final[Mapping[ConfigType, str]] = {
    ConfigType.BOOLEAN: "true or false",
    ConfigType.STRING: "a text",
    ConfigType.INT: "a whole number",
    ConfigType.SHORT: "a whole number",
    ConfigType.LONG: "a whole number",
    ConfigType.DOUBLE: "a number",
    ConfigType.LIST: "a list of texts, comma-separated",
    ConfigType.CLASS: "a name",
    ConfigType.PASSWORD: "a text",
}
