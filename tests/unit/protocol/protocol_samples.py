"""Messages with random content, made from the definitions: for every message, in any version."""

from importlib import import_module
from random import Random
from typing import Any

from ottla.core.types import Uuid
from ottla.protocol.message import Message
from tools.protocol.extract import DEFINITIONS
from tools.protocol.model import FIXED, Field, MessageDefinition, StructDefinition, load

MESSAGES = load(DEFINITIONS)

_RANGES = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
}
_ALPHABET = "ab-._09 äλ漢🐝"


def message_class(message: MessageDefinition) -> type[Message]:
    found: type[Message] = getattr(import_module(f"ottla.protocol.messages.{message.module}"), message.name)
    return found


class Sampler:
    """Draws values.

    With `tame` numbers stay where every second implementation can represent them; with `small` lists and texts
    are short.
    """

    def __init__(self, random: Random, *, tame: bool = False, small: bool = False) -> None:
        self._random, self._tame, self._small = random, tame, small

    def message(self, message: MessageDefinition, version: int) -> Message:
        """A message of which the fields that the version lacks keep their defaults."""
        sample = self._struct(message, message.top, version)
        assert isinstance(sample, Message)
        return sample

    def _struct(self, message: MessageDefinition, struct: StructDefinition, version: int) -> Any:
        cls = getattr(import_module(f"ottla.protocol.messages.{message.module}"), struct.name)
        fields = (one for one in struct.fields if version in one.versions)
        return cls(**{
            one.name: self._field(message, one, version)
            for one in fields
            if one.tag is None or self._random.random() < 0.5
        })  # fmt: skip

    def _field(self, message: MessageDefinition, field: Field, version: int) -> Any:
        if version in field.nullable and self._random.random() < 0.3:
            return None
        if not field.is_array:
            return self._value(message, field, version)
        most = 2 if self._small else self._random.choice([0, 1, 3, 3] if field.is_struct else [0, 2, 5, 150])
        return [self._value(message, field, version) for _ in range(self._random.randint(0, most))]

    def _value(self, message: MessageDefinition, field: Field, version: int) -> Any:
        random = self._random
        if field.is_struct:
            return self._struct(message, message.struct(field.type), version)
        if field.type in _RANGES:
            return self._number(field)
        if field.type == "bool":
            return random.random() < 0.5
        if field.type == "float64":
            return random.uniform(-1e9, 1e9)
        if field.type == "uuid":
            return Uuid(random.randbytes(16))
        size = random.choice([0, 3, 5] if self._small else [0, 1, 7, 20, 126, 127, 128, 300])
        if field.type == "string":
            return "".join(random.choices(_ALPHABET, k=size))
        return random.randbytes(size)

    def _number(self, field: Field) -> int:
        if self._tame and field.name.endswith("error_code"):
            return self._random.choice([-1, 0, 1, 3, 35, 100])
        low, high = _RANGES[field.type]
        if self._tame and FIXED[field.type][1] >= 4:
            low, high = 0, min(high, 1 << 40)
        return self._random.choice([0, self._random.randint(low, high), self._random.choice([low, high])])
