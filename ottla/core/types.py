"""Ids that must not be mixed up, and Kafka's text form of a UUID.

A topic id, directory id or cluster id is carried as its 16 raw bytes (so it stands on the wire and on disk) and
shown as Kafka shows it: 22 characters of URL-safe base64 without padding.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NewType

Uuid = NewType("Uuid", bytes)  # 16 bytes
NodeId = NewType("NodeId", int)

ZERO_UUID: Final = Uuid(bytes(16))

Buffer = bytes | bytearray | memoryview


def format_uuid(uuid: Uuid) -> str:
    """Kafka's text form, e.g. ``J8qXRwI-Qyi2G0guFTiuYw``."""
    return urlsafe_b64encode(uuid).rstrip(b"=").decode()


def parse_uuid(text: str) -> Uuid:
    """The reverse of `format_uuid`; raises ValueError when `text` is not 22 characters of URL-safe base64."""
    if len(text) != 22:
        raise ValueError(f"not a UUID in Kafka's text form (22 characters of URL-safe base64): {text!r}")
    return Uuid(urlsafe_b64decode(text + "=="))
