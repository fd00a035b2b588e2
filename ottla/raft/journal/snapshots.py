"""A snapshot's file: one frame that says what it is, then its data in chunks.

    opening   version u16 | index u64 | term u64 | data length u64 | membership

It gets its name when all of it is durable, so one that has its name is whole, or was damaged since.
"""

import struct
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from typing import Final

from ottla.core.errors import DecodeError
from ottla.core.ports import File, Files
from ottla.raft.core import Membership, Snapshot
from ottla.raft.journal.errors import check_version, damage
from ottla.raft.journal.frames import FORMAT_VERSION, HEADER_BYTES, FrameKind, encode_frame, read_header
from ottla.raft.journal.outline import Place
from ottla.raft.journal.records import decode_version
from ottla.raft.journal.segments import NEW_SUFFIX

CHUNK_BYTES: Final = 1 << 20
_SUFFIX: Final = ".snapshot"
_OPENING: Final = Struct(">HQQQ")


def snapshot_name(place: Place) -> str:
    return f"{place.index:020d}-{place.term:010d}{_SUFFIX}"


def snapshot_places(names: Sequence[str]) -> list[Place]:
    """Of the snapshots among the names of a directory, in order."""
    places = []
    for name in names:
        index, dash, term = name.removesuffix(_SUFFIX).partition("-")
        if name.endswith(_SUFFIX) and dash and index.isdecimal() and term.isdecimal():
            places.append(Place(int(index), int(term)))
    return sorted(places)


def write_snapshot(files: Files, directory: str, snapshot: Snapshot, temporary: str) -> None:
    """Durable under its name when it returns, or not there at all. Two at a time need two names `temporary`."""
    path = f"{directory}/{snapshot_name(Place(snapshot.index, snapshot.term))}"
    new = f"{directory}/{temporary}{NEW_SUFFIX}"
    try:
        file = files.open(new, create=True)
        try:
            file.truncate(0)
            _write(file, snapshot)
            file.sync()
        finally:
            file.close()
        files.rename(new, path)
    except OSError:
        with suppress(OSError):  # the disk may be full, and the first error is the one that says so
            files.remove(new)
        raise
    files.sync_directory(directory)


def _write(file: File, snapshot: Snapshot) -> None:
    data = memoryview(snapshot.data)
    opening = _OPENING.pack(FORMAT_VERSION, snapshot.index, snapshot.term, len(data)) + snapshot.membership.encode()
    file.pwritev([encode_frame(FrameKind.SNAPSHOT, snapshot.index, 0, opening), opening], 0)
    position = HEADER_BYTES + len(opening)
    for start in range(0, len(data), CHUNK_BYTES):
        chunk = data[start : start + CHUNK_BYTES]
        file.pwritev([encode_frame(FrameKind.CHUNK, snapshot.index, position, chunk), chunk], position)
        position += HEADER_BYTES + len(chunk)


def read_snapshot(files: Files, directory: str, place: Place) -> Snapshot:
    """Raises CorruptLog, or StorageError for a format of a newer version."""
    path = f"{directory}/{snapshot_name(place)}"
    file = files.open(path)
    try:
        return _Reader(file, path, place).read()
    finally:
        file.close()


class _Reader:
    def __init__(self, file: File, path: str, place: Place) -> None:
        self.file, self.path, self.place = file, path, place
        self.position = 0

    def read(self) -> Snapshot:
        opening = self._next(FrameKind.SNAPSHOT)
        try:
            check_version(self.path, decode_version(opening))
            membership = Membership.decode(opening[_OPENING.size :])
            _, index, term, length = _OPENING.unpack_from(opening)
        except (DecodeError, struct.error) as error:
            raise damage(self.path, 0, f"the snapshot's opening is wrong: {error}") from error
        if Place(index, term) != self.place:
            raise damage(self.path, 0, f"the file holds the snapshot of entry {index} of term {term}")
        data = bytearray()
        while len(data) < length:
            data += self._next(FrameKind.CHUNK)
        if len(data) != length or self.file.size() != self.position:
            raise damage(self.path, self.position, f"the snapshot does not end with its {length} bytes")
        return Snapshot(index, term, membership, bytes(data))

    def _next(self, kind: FrameKind) -> bytes:
        start = self.position
        header = read_header(self.file.pread(HEADER_BYTES, start), 0, self.place.index, start)
        if header is None or header.kind is not kind:
            raise damage(self.path, start, "a part of the snapshot is unreadable")
        body = self.file.pread(header.length, start + HEADER_BYTES)
        if not header.fits(body):
            raise damage(self.path, start, "a part of the snapshot is unreadable")
        self.position = start + HEADER_BYTES + header.length
        return body
