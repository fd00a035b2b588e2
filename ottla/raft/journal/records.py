"""What stands in a segment's frames.

    opening     version u16 | node i32 | directory 16 | size u64 | restarts u8 | base index u64 | base term u64
                | previous end u64 | hard state
    records     (1 | hard state) or (2 | entry), one after the other, then 255
    hard state  term u64 | voted u8 | node i32 | directory 16
    entry       index u64 | term u64 | kind u8 | client u64 | sequence u64 | resolved below u64 | length u32 | data

Numbers are big-endian. A change of this is a new FORMAT_VERSION; the version stands first in all of them.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from ottla.core.errors import DecodeError
from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Entry, EntryKind, HardState, Member
from ottla.raft.journal.outline import Place

_VERSION: Final = Struct(">H")
_OPENING: Final = Struct(">Hi16sQ?QQQ")
_STATE: Final = Struct(">Q?i16s")
_ENTRY: Final = Struct(">QQBQQQI")
_STATE_TAG: Final = b"\x01"
_ENTRY_TAG: Final = b"\x02"
_END_TAG: Final = b"\xff"  # no zero: `frames.is_torn` looks for it
_NOBODY: Final = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a segment begins with: enough to go on from, when all before it is gone."""

    version: int
    member: Member
    size: int  # of the file
    restarts: bool  # the log begins anew here, after a snapshot: no earlier segment counts
    base: Place  # the end of the log when the segment was made
    previous_end: int  # where the segment before ends
    hard_state: HardState


def encode_opening(opening: Opening) -> bytes:
    member = opening.member
    head = _OPENING.pack(
        opening.version, member.node, member.directory, opening.size, opening.restarts,
        opening.base.index, opening.base.term, opening.previous_end,
    )  # fmt: skip
    return head + _encode_state(opening.hard_state)


def decode_version(body: bytes) -> int:
    """The first field, in all versions. Raises DecodeError."""
    if len(body) < _VERSION.size:
        raise DecodeError("no version")
    return int(_VERSION.unpack_from(body)[0])


def decode_opening(body: bytes) -> Opening:
    """Of the present version. Raises DecodeError."""
    if len(body) != _OPENING.size + _STATE.size:
        raise DecodeError(f"a segment's opening of {len(body)} bytes")
    version, node, directory, size, restarts, index, term, previous_end = _OPENING.unpack_from(body)
    return Opening(
        version=version, member=Member(NodeId(node), Uuid(directory)), size=size, restarts=restarts,
        base=Place(index, term), previous_end=previous_end, hard_state=_decode_state(body, _OPENING.size),
    )  # fmt: skip


def encode_records(state: HardState | None, entries: Sequence[Entry]) -> bytes:
    parts = [_STATE_TAG, _encode_state(state)] if state is not None else []
    for entry in entries:
        head = _ENTRY.pack(
            entry.index, entry.term, entry.kind, entry.client, entry.sequence, entry.resolved_below, len(entry.data)
        )
        parts += [_ENTRY_TAG, head, entry.data]
    parts.append(_END_TAG)
    return b"".join(parts)


def decode_records(body: bytes) -> Iterator[HardState | Entry]:
    """In the order in which they were encoded. Raises DecodeError."""
    at = 0
    try:
        while at < len(body):
            tag, at = body[at : at + 1], at + 1
            if tag == _STATE_TAG:
                yield _decode_state(body, at)
                at += _STATE.size
            elif tag == _ENTRY_TAG:
                index, term, kind, client, sequence, resolved_below, length = _ENTRY.unpack_from(body, at)
                at += _ENTRY.size
                data = body[at : at + length]
                if len(data) != length:
                    raise DecodeError(f"entry {index} of {length} bytes where {len(data)} are left")
                at += length
                yield Entry(index, term, EntryKind(kind), data, client, sequence, resolved_below)
            elif tag == _END_TAG and at == len(body):
                return
            else:
                raise DecodeError(f"a record of the unknown kind {tag[0]}")
    except (struct.error, ValueError) as error:
        raise DecodeError(f"a record that is none: {error}") from error
    raise DecodeError("the records do not end where they should")


def _encode_state(state: HardState) -> bytes:
    if state.vote is None:
        return _STATE.pack(state.term, False, 0, _NOBODY)
    return _STATE.pack(state.term, True, state.vote.node, state.vote.directory)


def _decode_state(body: bytes, at: int) -> HardState:
    term, voted, node, directory = _STATE.unpack_from(body, at)
    return HardState(term, Member(NodeId(node), Uuid(directory)) if voted else None)
