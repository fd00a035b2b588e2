"""Finds out which field of a message could not be encoded. Runs only after encoding failed."""

from typing import Any, Final

_RANGES: Final = {
    "Int8": (-(1 << 7), (1 << 7) - 1),
    "Int16": (-(1 << 15), (1 << 15) - 1),
    "Int32": (-(1 << 31), (1 << 31) - 1),
    "Int64": (-(1 << 63), (1 << 63) - 1),
    "UInt16": (0, (1 << 16) - 1),
    "UInt32": (0, (1 << 32) - 1),
}
_CLASSES: Final = {"bool": bool, "str": str, "bytes": bytes, "float": float}


def describe_misfit(message: Any, error: Exception) -> str:
    """Names the first field whose value does not fit its type; the error's own words when every value does."""
    name = type(message).__name__
    return _struct(message, name) or f"{name}: {error}"


def _struct(struct: Any, path: str) -> str | None:
    for name, annotation in type(struct).__annotations__.items():
        found = _value(getattr(struct, name), annotation, f"{path}.{name}")
        if found:
            return found
    return None


def _value(value: Any, annotation: str, path: str) -> str | None:
    if annotation.endswith(" | None"):
        if value is None:
            return None
        annotation = annotation.removesuffix(" | None")
    if annotation.startswith("list["):
        return _list(value, annotation[5:-1], path)
    if annotation in _RANGES:
        return _integer(value, annotation, path)
    if annotation == "Uuid":
        fits = isinstance(value, bytes) and len(value) == 16
        return None if fits else f"{path}: {value!r} is no UUID of 16 bytes"
    if annotation == "Buffer":
        fits = isinstance(value, bytes | bytearray | memoryview)
        return None if fits else f"{path}: {type(value).__name__} where bytes belong"
    if annotation in _CLASSES:
        return _plain(value, annotation, path)
    if type(value).__name__ != annotation:
        return f"{path}: {value!r} is no {annotation}"
    return _struct(value, path)


def _list(value: Any, annotation: str, path: str) -> str | None:
    if not isinstance(value, list | tuple):
        return f"{path}: {value!r} is no list"
    found = (_value(element, annotation, f"{path}[{index}]") for index, element in enumerate(value))
    return next((one for one in found if one), None)


def _integer(value: Any, annotation: str, path: str) -> str | None:
    lowest, highest = _RANGES[annotation]
    if isinstance(value, int) and lowest <= value <= highest:
        return None
    return f"{path}: {value!r} is not between {lowest} and {highest}"


def _plain(value: Any, annotation: str, path: str) -> str | None:
    if annotation == "float" and isinstance(value, int | float):
        return None
    if not isinstance(value, _CLASSES[annotation]):
        return f"{path}: {value!r} is no {annotation}"
    if isinstance(value, str):
        try:
            length = len(value.encode())
        except UnicodeEncodeError:
            return f"{path}: {value!r} is no Unicode text"
        if length > 32767:
            return f"{path}: {length} bytes of text are more than 32767"
    return None
