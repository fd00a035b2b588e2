"""Serializers and deserializers: plain callables between a user's values and bytes, and a few ready ones.

A serializer is called with the value and gives bytes, or None for null; it is not called for None. A deserializer is
called with bytes and is not called for null.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


def string_serializer(value: str) -> bytes:
    """UTF-8."""
    return value.encode()


def string_deserializer(data: bytes) -> str:
    """UTF-8."""
    return data.decode()


def json_serializer(value: object) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def json_deserializer(data: bytes) -> Any:
    """JSON in UTF-8."""
    return json.loads(data)
