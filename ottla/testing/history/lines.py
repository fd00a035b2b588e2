"""One line an operation: a JSON array of its kind and its fields, in the order in which the class has them."""

import json
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from ottla.testing.history.operations import KINDS, At, Operation, Outcome, Seen, TopicPartition, Written

START: Final = "start"
"""A recorder was opened: what was under way before, in this file, never ends."""

_OUTCOMES: Final = {one.value: one for one in Outcome}
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_GETTERS: Final = {kind: attrgetter(*(f.name for f in fields(one))) for kind, one in KINDS.items()}


def encoded(operation: Operation, number: int = 0) -> bytes:
    """With the end of the line. `number` 0: nothing else is said of this operation."""
    kind = operation.kind
    return (_encode([kind, number, *_GETTERS[kind](operation)]) + "\n").encode()


def start_line(process: str, now_ns: int) -> bytes:
    """The first line of each recorder."""
    return (_encode([START, process, now_ns]) + "\n").encode()


def _same(value: Any) -> Any:
    return value


def _tuple_of(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rows: tuple(map(kind, rows))


_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "outcome": _OUTCOMES.__getitem__,
    "records": _tuple_of(Seen._make),
    "positions": _tuple_of(At._make),
    "offsets": _tuple_of(At._make),
    "starts": _tuple_of(At._make),
    "to": _tuple_of(At._make),
    "partitions": _tuple_of(TopicPartition._make),
    "written": _tuple_of(Written._make),
    "entries": lambda rows: tuple([(key, value) for key, value in rows]),
    "source": lambda at: at and At._make(at),
}

_NAMES: Final = {kind: [f.name for f in fields(one)] for kind, one in KINDS.items()}
_CONVERTED: Final = {
    kind: [(name, _DECODERS[name]) for name in names if name in _DECODERS] for kind, names in _NAMES.items()
}


def decoded(row: list[Any]) -> Operation:
    """What `encoded` wrote, parsed as JSON. Raises KeyError, TypeError or ValueError on anything else."""
    kind = row[0]
    named = dict(zip(_NAMES[kind], row[2:], strict=True))
    for name, convert in _CONVERTED[kind]:
        named[name] = convert(named[name])
    return KINDS[kind](**named)
