"""Commands of the key-value store, and what they answer, as bytes.

A command is one byte that names it, then its fields; a field is its length (4 bytes, big-endian) and its bytes, and an
optional field is preceded by a byte that is 1 when it is there. An answer is one byte of status, then a number or
nothing. Answers are short because the quorum keeps them for clients that retry.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TypeAlias

_LENGTH = Struct(">I")


@dataclass(frozen=True, slots=True)
class Set:
    """Whatever was there, the key has this value now."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """The key has no value any more. ABSENT when it had none."""

    key: bytes


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    """Set the value if the present one is `expected` (None: if there is none). MISMATCH when it is not."""

    key: bytes
    expected: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """Put `suffix` behind the present value (behind nothing if there is none); answers the new length."""

    key: bytes
    suffix: bytes


Command: TypeAlias = Set | Delete | CompareAndSet | Append


class Status(IntEnum):
    """How a command ended."""

    OK = 0
    ABSENT = 1
    MISMATCH = 2
    INVALID = 3  # bytes that are no command: nothing changed


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered; `length` of the new value after an append, else 0."""

    status: Status
    length: int = 0

    def encode(self) -> bytes:
        return bytes([self.status]) + (_LENGTH.pack(self.length) if self.length else b"")

    @staticmethod
    def decode(data: bytes) -> "Answer":
        """Raises ValueError for bytes that are no answer (an empty one stands for a defect of the store)."""
        if len(data) not in (1, 1 + _LENGTH.size):
            raise ValueError(f"an answer of {len(data)} bytes")
        return Answer(Status(data[0]), _LENGTH.unpack_from(data, 1)[0] if len(data) > 1 else 0)


def encode(command: Command) -> bytes:
    match command:
        case Set(key, value):
            return b"\x01" + field(key) + field(value)
        case Delete(key):
            return b"\x02" + field(key)
        case CompareAndSet(key, None, value):
            return b"\x03" + field(key) + b"\x00" + field(value)
        case CompareAndSet(key, expected, value):
            return b"\x03" + field(key) + b"\x01" + field(expected or b"") + field(value)
        case Append(key, suffix):
            return b"\x04" + field(key) + field(suffix)


def decode(data: bytes) -> Command:
    """Raises ValueError for bytes that are no command."""
    if data[:1] == b"\x03":
        return _decode_compare_and_set(data)
    match data[:1], list(fields(data, 1)):
        case b"\x01", [key, value]:
            return Set(key, value)
        case b"\x02", [key]:
            return Delete(key)
        case b"\x04", [key, suffix]:
            return Append(key, suffix)
    raise ValueError("bytes that are no command")


def _decode_compare_and_set(data: bytes) -> CompareAndSet:
    (key_size,) = _LENGTH.unpack(data[1:5]) if len(data) >= 5 else (0,)
    flag_at = 5 + key_size
    match data[flag_at : flag_at + 1], [*fields(data[:flag_at], 1), *fields(data, flag_at + 1)]:
        case b"\x00", [key, value]:
            return CompareAndSet(key, None, value)
        case b"\x01", [key, expected, value]:
            return CompareAndSet(key, expected, value)
    raise ValueError("bytes that are no command")


def field(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def fields(data: bytes, position: int) -> Iterator[bytes]:
    """All that follow each other from `position` to the end. Raises ValueError when the end is not one of a field."""
    while position < len(data):
        start = position + _LENGTH.size
        if start > len(data):
            raise ValueError(f"the field at byte {position} is cut off")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise ValueError(f"the field at byte {start - _LENGTH.size} is cut off")
        yield data[start:position]
