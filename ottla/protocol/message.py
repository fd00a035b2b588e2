"""The base of the generated messages: entry points that check the version and raise one error each way.

A message is decoded into plain attributes, which never share memory with the buffer of a connection, apart from
`records`, which is a view of the decoded bytes. A field that the chosen version does not have keeps its default when
decoded and is left out when encoded.
"""

from struct import error as struct_error
from typing import Any, ClassVar, Final, Self

from ottla.core.errors import DecodeError, EncodeError
from ottla.core.types import Buffer, Uuid, format_uuid
from ottla.protocol.misfit import describe_misfit
from ottla.protocol.wire import MALFORMED, MAX_ELEMENTS

# Annotations of generated fields; they tell what fits.
Int8 = int
Int16 = int
Int32 = int
Int64 = int
UInt16 = int
UInt32 = int

NEVER: Final = 1 << 15  # FIRST_FLEXIBLE_VERSION of a message that has no flexible version
EMPTY: Final[list[Any]] = []  # stands for "a new list" among the defaults of constructors
UNSET: Final[Any] = object()  # stands for "a new struct" where null is another value


class Data:
    """A struct of a message: compares and shows itself by its fields, of bytes only how many (data, or secrets)."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self).__annotations__)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        annotations = type(self).__annotations__.items()
        fields = ", ".join(f"{name}={_show(getattr(self, name), annotation)}" for name, annotation in annotations)
        return f"{type(self).__name__}({fields})"


def _show(value: object, annotation: str) -> str:
    if annotation == "Uuid" and isinstance(value, bytes):
        return format_uuid(Uuid(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return repr(value)


class Message(Data):
    """A message as a whole."""

    __slots__ = ()

    API_KEY: ClassVar[int]
    MIN_VERSION: ClassVar[int]
    MAX_VERSION: ClassVar[int]
    FIRST_FLEXIBLE_VERSION: ClassVar[int]

    @classmethod
    def decode(cls, buffer: Buffer, version: int, position: int = 0) -> tuple[Self, int]:
        """The message that starts at `position`, and the position behind it. Raises DecodeError."""
        if not cls.MIN_VERSION <= version <= cls.MAX_VERSION:
            raise DecodeError(f"{cls.__name__} has no version {version}")
        data = buffer if type(buffer) is bytes else bytes(buffer)
        try:
            return cls._read(data, position, version, [MAX_ELEMENTS])
        except MALFORMED as error:
            raise DecodeError(f"{cls.__name__} version {version}: {error}") from None

    def encode(self, version: int) -> bytes:
        """The message on the wire. Raises EncodeError, which names the field."""
        out = bytearray()
        self.encode_into(out, version)
        return bytes(out)

    def encode_into(self, out: bytearray, version: int) -> None:
        """Append the message to `out`, of which the content is undefined after an EncodeError."""
        if not self.MIN_VERSION <= version <= self.MAX_VERSION:
            raise EncodeError(f"{type(self).__name__} has no version {version}")
        try:
            self._write(out, version)
        except EncodeError:
            raise
        except (struct_error, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise EncodeError(describe_misfit(self, error)) from error

    @classmethod
    def _read(cls, buffer: bytes, position: int, version: int, quota: list[int]) -> tuple[Self, int]:
        raise NotImplementedError

    def _write(self, out: bytearray, version: int) -> None:
        raise NotImplementedError
