"""Every error that Ottla raises on purpose.

    OttlaError
    ├── ApiError            an answer of the Kafka protocol: carries its code and whether it is retriable
    ├── DecodeError         bytes that are not what their sender calls them: a request, a message
    │   └── CorruptBatch    a record batch whose header, length or CRC is wrong
    │       └── InvalidRecord        a batch that arrived whole, but whose records the broker refuses
    │           └── UnsupportedMagic a batch of the message formats 0 and 1, which Kafka 4 refuses alike
    ├── EncodeError         a value that its place on the wire cannot hold; names the field
    ├── ConfigError         a wrong key or value; says what to change
    └── StorageError        the files on disk are not usable
        ├── CorruptLog      damage below the durable end: names file, position and what to do
        │   └── CorruptContents     of one batch, which its CRC tells; what follows can be read
        └── KnownDamage     the same, found before this start

`OSError` of a failed write or sync passes through to whoever submitted it; it is turned into
`ApiError(KAFKA_STORAGE_ERROR)` where a client is answered.
"""

from typing import ClassVar

from ottla.core.error_codes import ErrorCode

__all__ = [
    "ApiError",
    "ConfigError",
    "CorruptBatch",
    "CorruptContents",
    "CorruptLog",
    "DecodeError",
    "EncodeError",
    "ErrorCode",
    "InvalidRecord",
    "KnownDamage",
    "OttlaError",
    "StorageError",
    "UnsupportedMagic",
]


class OttlaError(Exception):
    """Whatever Ottla raises on purpose."""


class ApiError(OttlaError):
    """An error answer of the Kafka protocol."""

    def __init__(self, code: ErrorCode, message: str = "") -> None:
        super().__init__(message or code.name)
        self.code = code
        self.message = message

    @property
    def retriable(self) -> bool:
        """Whether the same request may succeed when it is sent again."""
        return self.code.retriable


class DecodeError(OttlaError):
    """Bytes that are not what their sender calls them; the only error that decoding raises."""


class CorruptBatch(DecodeError):
    """A record batch whose header, length or CRC is wrong."""

    code: ClassVar[ErrorCode] = ErrorCode.CORRUPT_MESSAGE
    """What a producer that sent such a batch is answered."""


class InvalidRecord(CorruptBatch):
    """A record batch that arrived as it was sent, but whose records are not what the format or the topic asks for."""

    code = ErrorCode.INVALID_RECORD


class UnsupportedMagic(InvalidRecord):
    """A record batch of the message formats 0 and 1, which no client writes to a broker of Kafka 4."""


class EncodeError(OttlaError, ValueError):
    """A value that its place on the wire cannot hold; the message names the field."""


class ConfigError(OttlaError):
    """A wrong configuration key or value; the message says what to change."""


class StorageError(OttlaError):
    """The files of a node or of a partition are not usable."""


class CorruptLog(StorageError):
    """Damage in a log below its durable end."""

    def __init__(self, path: str, position: int, reason: str, advice: str) -> None:
        super().__init__(f"{path} is damaged at byte {position}: {reason}. {advice}")
        self.path, self.position, self.reason, self.advice = path, position, reason, advice

    def __reduce__(self) -> tuple[type["CorruptLog"], tuple[str, int, str, str]]:
        return type(self), (self.path, self.position, self.reason, self.advice)


class CorruptContents(CorruptLog):
    """A batch in the middle of a log is not what was written. What lies before and behind it is sound."""


class KnownDamage(StorageError):
    """Damage that was found while the log was served, before this start. The text is that of the error then."""
