"""What clients and nodes of the store say to each other: JSON over TCP, one object a line.

A node answers the requests of a connection one after the other. Keys and values are text.

    {"do": "open"}                                                → {"node": 1, "client": 17}
    {"do": "get", "key": "k"}                                     → {"node": 1, "value": "v"}, or null
    {"do": "set", "key": "k", "value": "v", …}                    → {"node": 1, "status": "OK"}
    {"do": "append", "key": "k", "value": "v", …}                 → {"node": 1, "status": "OK", "length": 2}
    {"do": "delete", "key": "k", …}                               → {"node": 1, "status": "OK"}, or ABSENT
    {"do": "cas", "key": "k", "expected": null, "value": "v", …}  → {"node": 1, "status": "OK"}, or MISMATCH
    {"do": "status"}                                              → {"node": 1, "state": {"leader": 1, …}}
    whatever goes wrong                                           → {"node": 1, "error": "NOT_LEADER", "leader": 2, …}

A write names the session that `open` gave and its place in it: `"client": 17, "sequence": 1`, counted from 1. Sent
again, to whichever node, it is applied once and answered alike. A session has one write under way at a time.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from examples.kv.commands import Append, Command, CompareAndSet, Delete, Set, Status

MAX_KEY_BYTES: Final = 1 << 10
MAX_VALUE_BYTES: Final = 256 << 10
MAX_LINE_BYTES: Final = 4 << 20  # two values with every byte escaped
_MAX_NUMBER: Final = (1 << 63) - 1


class Error(Enum):
    """Why a request was not answered, and what its sender may conclude."""

    INVALID = "INVALID"  # no request, or one that is too large; nothing happened
    NOT_LEADER = "NOT_LEADER"  # nothing happened; ask `leader`, or whoever answers
    OVERLOADED = "OVERLOADED"  # nothing happened; later
    EXPIRED = "EXPIRED"  # no such session (any more): this attempt did nothing
    LOST = "LOST"  # whether it happened, or will, is unknown: send it again as it is
    FAILED = "FAILED"  # the node's disk failed; whether it happened is unknown


class InvalidRequest(ValueError):
    """Bytes that are no request."""


@dataclass(frozen=True, slots=True)
class Open:
    """A session for writes."""


@dataclass(frozen=True, slots=True)
class Get:
    """A linearizable read."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Describe:
    """What the node itself knows, whoever leads."""


@dataclass(frozen=True, slots=True)
class Write:
    """A command, once for each session and sequence."""

    command: Command
    client: int
    sequence: int


Request: TypeAlias = Open | Get | Describe | Write


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A node's answer to `Describe`."""

    leader: int | None
    term: int
    applied: int  # the index of the last entry
    digest: str  # of all keys and values


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer of `node`: what was asked for, or an `error`."""

    node: int
    client: int = 0
    value: bytes | None = None
    status: Status | None = None
    length: int = 0
    state: State | None = None
    error: Error | None = None
    leader: int | None = None
    detail: str = ""


# -- requests


def encode_request(request: Request) -> bytes:
    match request:
        case Open():
            said: dict[str, object] = {"do": "open"}
        case Describe():
            said = {"do": "status"}
        case Get(key):
            said = {"do": "get", "key": key.decode()}
        case Write(command, client, sequence):
            said = {**_say(command), "client": client, "sequence": sequence}
    return _line(said)


def _say(command: Command) -> dict[str, object]:
    match command:
        case Set(key, value):
            return {"do": "set", "key": key.decode(), "value": value.decode()}
        case Append(key, suffix):
            return {"do": "append", "key": key.decode(), "value": suffix.decode()}
        case Delete(key):
            return {"do": "delete", "key": key.decode()}
        case CompareAndSet(key, expected, value):
            known = None if expected is None else expected.decode()
            return {"do": "cas", "key": key.decode(), "expected": known, "value": value.decode()}


def decode_request(line: bytes) -> Request:
    """Raises InvalidRequest, whatever the bytes are."""
    fields = _Fields(_object(line))
    match fields.take("do"):
        case "open":
            request: Request = Open()
        case "status":
            request = Describe()
        case "get":
            request = Get(fields.key())
        case "set":
            request = fields.write(Set(fields.key(), fields.text("value", MAX_VALUE_BYTES)))
        case "append":
            request = fields.write(Append(fields.key(), fields.text("value", MAX_VALUE_BYTES)))
        case "delete":
            request = fields.write(Delete(fields.key()))
        case "cas":
            key, expected = fields.key(), fields.text_or_null("expected", MAX_VALUE_BYTES)
            request = fields.write(CompareAndSet(key, expected, fields.text("value", MAX_VALUE_BYTES)))
        case _:
            raise InvalidRequest("'do' is one of open, status, get, set, append, delete, cas")
    fields.end()
    return request


class _Fields:
    """Takes an object apart; each error names the field."""

    def __init__(self, said: dict[str, Any]) -> None:
        self._said = said

    def take(self, name: str) -> Any:
        try:
            return self._said.pop(name)
        except KeyError:
            raise InvalidRequest(f"{name!r} is missing") from None

    def key(self) -> bytes:
        key = self.text("key", MAX_KEY_BYTES)
        if not key:
            raise InvalidRequest("'key' is empty")
        return key

    def text_or_null(self, name: str, max_bytes: int) -> bytes | None:
        if name in self._said and self._said[name] is None:
            del self._said[name]
            return None
        return self.text(name, max_bytes)

    def text(self, name: str, max_bytes: int) -> bytes:
        value = self.take(name)
        if not isinstance(value, str):
            raise InvalidRequest(f"{name!r} is a text")
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{name!r} has half of a surrogate pair") from None
        if len(data) > max_bytes:
            raise InvalidRequest(f"{name!r} has {len(data)} bytes, and at most {max_bytes} are taken")
        return data

    def number(self, name: str) -> int:
        value = self.take(name)
        if type(value) is not int or not 0 < value <= _MAX_NUMBER:
            raise InvalidRequest(f"{name!r} is a whole number from 1 on")
        return value

    def write(self, command: Command) -> Write:
        return Write(command, self.number("client"), self.number("sequence"))

    def end(self) -> None:
        if self._said:
            raise InvalidRequest(f"{next(iter(self._said))!r} is no field of this request")


# -- replies


def encode_reply(reply: Reply) -> bytes:
    said: dict[str, object] = {"node": reply.node}
    if reply.error is not None:
        said |= {"error": reply.error.value, "leader": reply.leader, "detail": reply.detail}
    elif reply.state is not None:
        state = reply.state
        known = {"leader": state.leader, "term": state.term, "applied": state.applied, "digest": state.digest}
        said["state"] = known
    elif reply.status is not None:
        said["status"] = reply.status.name
        if reply.length:
            said["length"] = reply.length
    elif reply.client:
        said["client"] = reply.client
    else:
        said["value"] = None if reply.value is None else reply.value.decode()
    return _line(said)


def decode_reply(line: bytes) -> Reply:
    """Raises ValueError for what no node says."""
    said = _object(line)
    try:
        value, status, state, error = (said.get(name) for name in ("value", "status", "state", "error"))
        return Reply(
            node=said["node"],
            client=said.get("client", 0),
            value=None if value is None else value.encode(),
            status=None if status is None else Status[status],
            length=said.get("length", 0),
            state=None if state is None else State(**state),
            error=None if error is None else Error(error),
            leader=said.get("leader"),
            detail=said.get("detail", ""),
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"a reply that is none: {problem!r}") from problem


def _line(said: dict[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidRequest("a line is one JSON object") from None
    if not isinstance(said, dict):
        raise InvalidRequest("a line is one JSON object")
    return said
