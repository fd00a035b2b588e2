"""The message definitions as the generator sees them: typed, named as in Python, with versions as ranges."""

import json
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Types of a fixed size: the letter of the `struct` module, the size in bytes, the annotation, the default.
FIXED = {
    "bool": ("?", 1, "bool", "False"),
    "int8": ("b", 1, "Int8", "0"),
    "int16": ("h", 2, "Int16", "0"),
    "int32": ("i", 4, "Int32", "0"),
    "int64": ("q", 8, "Int64", "0"),
    "uint16": ("H", 2, "UInt16", "0"),
    "uint32": ("I", 4, "UInt32", "0"),
    "float64": ("d", 8, "float", "0.0"),
    "uuid": ("16s", 16, "Uuid", "ZERO_UUID"),
}
VARIABLE = {"string": ("str", '""'), "bytes": ("bytes", 'b""'), "records": ("Buffer", 'b""')}


@dataclass(frozen=True, slots=True)
class Versions:
    """A closed range of versions; empty when `first` > `last`."""

    first: int
    last: int

    def __bool__(self) -> bool:
        return self.first <= self.last

    def __and__(self, other: "Versions") -> "Versions":
        return Versions(max(self.first, other.first), min(self.last, other.last))

    def __contains__(self, version: int) -> bool:
        return self.first <= version <= self.last

    def covers(self, other: "Versions") -> bool:
        return self & other == other

    def condition(self, within: "Versions") -> str | None:
        """The test which tells this range from the rest of `within`; None when there is no rest."""
        inner = self & within
        if inner == within:
            return None
        if inner.first == inner.last:
            return f"version == {inner.first}"
        if inner.last == within.last:
            return f"version >= {inner.first}"
        if inner.first == within.first:
            return f"version <= {inner.last}"
        return f"{inner.first} <= version <= {inner.last}"


NO_VERSIONS = Versions(1, 0)
NO_DEFAULT = object()


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct."""

    name: str
    type: str  # of one element, for an array
    is_array: bool
    versions: Versions
    nullable: Versions
    tag: int | None
    default: Any
    always_classic: bool

    @property
    def is_fixed(self) -> bool:
        return not self.is_array and self.type in FIXED

    @property
    def is_struct(self) -> bool:
        return self.type not in FIXED and self.type not in VARIABLE

    @property
    def element_annotation(self) -> str:
        if self.is_struct:
            return self.type
        return FIXED[self.type][2] if self.type in FIXED else VARIABLE[self.type][0]

    @property
    def annotation(self) -> str:
        plain = f"list[{self.element_annotation}]" if self.is_array else self.element_annotation
        return f"{plain} | None" if self.nullable else plain

    @property
    def default_expression(self) -> str:
        """What a constructor puts where it is given nothing."""
        if self.default is not NO_DEFAULT:
            return repr(self.default) if not isinstance(self.default, str) else f'"{self.default}"'
        if self.is_array:
            return "[]"
        if self.is_struct:
            return f"{self.type}()"
        if self.type == "records" and self.nullable:
            return "None"
        return FIXED[self.type][3] if self.type in FIXED else VARIABLE[self.type][1]


@dataclass(frozen=True, slots=True)
class StructDefinition:
    """A struct of a message: its name and fields, and the versions in which the message uses it."""

    name: str
    fields: tuple[Field, ...]
    versions: Versions

    @property
    def snake_name(self) -> str:
        return snake_case(self.name)

    def tagged(self, versions: Versions) -> list[Field]:
        return sorted(
            (one for one in self.fields if one.tag is not None and one.versions & versions),
            key=lambda one: one.tag or 0,
        )

    def untagged(self, versions: Versions) -> list[Field]:
        return [one for one in self.fields if one.tag is None and one.versions & versions]


@dataclass(frozen=True, slots=True)
class MessageDefinition:
    """A message: its outermost struct and, leaves first, the structs which that one uses."""

    kind: str
    api_key: int | None
    first_flexible: int | None  # None: never
    top: StructDefinition
    structs: tuple[StructDefinition, ...] = field(default=())

    @property
    def name(self) -> str:
        return self.top.name

    @property
    def module(self) -> str:
        return snake_case(self.top.name)

    def halves(self, struct: StructDefinition) -> Iterator[tuple[bool, Versions]]:
        """(flexible, versions) for the encodings that the struct has: the one before KIP-482 and the one since."""
        flexible_from = 1 << 15 if self.first_flexible is None else self.first_flexible
        classic = struct.versions & Versions(0, flexible_from - 1)
        flexible = struct.versions & Versions(flexible_from, 1 << 15)
        if flexible:
            yield True, flexible
        if classic:
            yield False, classic

    def struct(self, name: str) -> StructDefinition:
        return next(one for one in self.structs if one.name == name)


def load(path: Path) -> list[MessageDefinition]:
    return [_message(raw) for raw in json.loads(path.read_text())]


def snake_case(name: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return snake + "_" if keyword.iskeyword(snake) else snake


def _message(raw: dict[str, Any]) -> MessageDefinition:
    versions = Versions(*raw["versions"])
    fields = {name: tuple(map(_field, one)) for name, one in raw["structs"].items()}
    top = StructDefinition(raw["name"], tuple(map(_field, raw["fields"])), versions)
    used: dict[str, Versions] = {}
    _collect(top.fields, versions, fields, used)
    ordered: dict[str, StructDefinition] = {}

    def place(name: str) -> None:
        for one in fields[name]:
            if one.is_struct and one.type in used:
                place(one.type)
        ordered.setdefault(name, StructDefinition(name, fields[name], used[name]))

    for name in used:
        place(name)
    return MessageDefinition(raw["kind"], raw.get("key"), raw.get("flexible"), top, tuple(ordered.values()))


def _collect(
    members: tuple[Field, ...], versions: Versions, structs: dict[str, tuple[Field, ...]], used: dict[str, Versions]
) -> None:
    """For each struct the versions in which something refers to it."""
    for one in members:
        reach = one.versions & versions
        if not one.is_struct or not reach:
            continue
        known = used.get(one.type)
        joined = Versions(min(known.first, reach.first), max(known.last, reach.last)) if known else reach
        used[one.type] = joined
        _collect(structs[one.type], joined, structs, used)


def _field(raw: dict[str, Any]) -> Field:
    return Field(
        name=snake_case(raw["name"]),
        type=raw["type"].removeprefix("[]"),
        is_array=raw["type"].startswith("[]"),
        versions=Versions(*raw["versions"]),
        nullable=Versions(*raw["nullable"]) if "nullable" in raw else NO_VERSIONS,
        tag=raw.get("tag"),
        default=raw.get("default", NO_DEFAULT),
        always_classic=raw.get("classic", False),
    )
