"""Which proposals of which clients were applied already, and with what result (dissertation 6.3).

Part of the replicated state: it changes only when an entry is applied, the same on every node, and goes into snapshots.
So a proposal that a client sends again, to whichever leader, is applied once and gets the first result.
"""

import struct
from collections import OrderedDict
from enum import Enum
from typing import Final

from ottla.core.errors import DecodeError

MAX_SESSIONS: Final = 10_000
"""The session that was used least lately goes when there are more: its client gets `SessionExpired`."""

_COUNT = struct.Struct(">I")
_SESSION = struct.Struct(">QQI")  # client, resolved below, results
_RESULT = struct.Struct(">QI")  # sequence, length


class Standing(Enum):
    """Of a proposal that names a client: what `Sessions.standing` found instead of a result."""

    NEW = "new"
    """To be applied."""
    UNKNOWN = "unknown"
    """No such session, or its result is forgotten: not to be applied."""


class Sessions:
    """Results by client and sequence."""

    __slots__ = ("_limit", "_sessions")

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        self._sessions: OrderedDict[int, _Session] = OrderedDict()  # the least lately used first

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, client: int) -> None:
        """A session begins."""
        self._sessions[client] = _Session()
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)

    def standing(self, client: int, sequence: int) -> bytes | Standing:
        """The result that this proposal had, or why it has none."""
        session = self._sessions.get(client)
        if session is None or sequence < session.resolved_below:
            return Standing.UNKNOWN
        return session.results.get(sequence, Standing.NEW)

    def use(self, client: int, resolved_below: int) -> None:
        """The client lives, and asks for none of these results any more."""
        session = self._sessions.get(client)
        if session is None:
            return
        self._sessions.move_to_end(client)
        if resolved_below > session.resolved_below:
            session.resolved_below = resolved_below
            session.results = {s: result for s, result in session.results.items() if s >= resolved_below}

    def record(self, client: int, sequence: int, result: bytes) -> None:
        """The proposal was applied just now."""
        self._sessions[client].results[sequence] = result

    def encode(self) -> bytes:
        """In the order of use, which decides who goes first."""
        parts = [_COUNT.pack(len(self._sessions))]
        for client, session in self._sessions.items():
            parts.append(_SESSION.pack(client, session.resolved_below, len(session.results)))
            for sequence, result in session.results.items():
                parts += [_RESULT.pack(sequence, len(result)), result]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes, limit: int = MAX_SESSIONS) -> "Sessions":
        """Raises DecodeError for anything but what `encode` makes."""
        sessions = cls(limit)
        try:
            (count,) = _COUNT.unpack_from(data)
            position = _COUNT.size
            for _ in range(count):
                client, resolved_below, results = _SESSION.unpack_from(data, position)
                position += _SESSION.size
                session = sessions._sessions[client] = _Session()
                session.resolved_below = resolved_below
                for _ in range(results):
                    sequence, length = _RESULT.unpack_from(data, position)
                    position += _RESULT.size
                    session.results[sequence] = data[position : position + length]
                    position += length
        except struct.error as error:
            raise DecodeError(f"sessions in {len(data)} bytes: {error}") from error
        if position != len(data):
            raise DecodeError(f"sessions end at byte {position} of {len(data)}")
        return sessions


class _Session:
    __slots__ = ("resolved_below", "results")

    def __init__(self) -> None:
        self.resolved_below = 0
        self.results: dict[int, bytes] = {}
