"""A segment: a file of zeros, made in advance, that is filled with frames from its beginning.

It gets its name when its opening is durable, so a segment that has its name is whole. The zeros are written, not only
reserved: then a sync has nothing to tell the file system, and what a torn write left out is known for zeros.

On ext4 a synced write of 8 KiB took 149 µs so, 231 µs in a file whose blocks were only reserved (the first write to
each changes the file system's own metadata) and 282 µs in one that grew; of 200 bytes, 133, 115 and 191 µs. Filling
4 MiB took 5 ms (python -m bench.micro.raft_journal --rounds 25; the best rounds, on a busy machine).
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ottla.core.errors import DecodeError, StorageError
from ottla.core.ports import File, Files
from ottla.raft.core import Member
from ottla.raft.journal.errors import check_version, damage
from ottla.raft.journal.frames import HEADER_BYTES, Frame, FrameKind, encode_frame, read_frame
from ottla.raft.journal.records import Opening, decode_opening, decode_version, encode_opening

NEW_SUFFIX: Final = ".new"
_SUFFIX: Final = ".segment"
_ZEROS: Final = bytes(1 << 20)
_OPENING_BYTES: Final = 256  # more than any version's opening takes


def segment_name(number: int) -> str:
    return f"{number:010d}{_SUFFIX}"


def segment_numbers(names: Sequence[str]) -> list[int]:
    """Of the segments among the names of a directory, in order."""
    stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


class Segment:
    """One segment; `file` is open in the newest one only."""

    __slots__ = ("end", "file", "last_index", "number", "path", "size")

    def __init__(self, path: str, number: int, size: int, end: int) -> None:
        self.path, self.number, self.size = path, number, size
        self.end = end  # of its frames
        self.last_index = 0  # the largest of any entry in it
        self.file: File | None = None

    def has_room(self, body_bytes: int) -> bool:
        return self.end + HEADER_BYTES + body_bytes <= self.size

    def write(self, body: bytes, last_index: int) -> int:
        """One frame, durable when it returns; how many bytes it takes."""
        assert self.file is not None
        frame = encode_frame(FrameKind.RECORDS, self.number, self.end, body) + body
        self.file.pwritev([frame], self.end, sync=True)
        self.end += len(frame)
        self.last_index = max(self.last_index, last_index)
        return len(frame)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


def size_for(body_bytes: int, segment_bytes: int) -> int:
    """The size of a segment that has room for a frame of `body_bytes`."""
    return max(segment_bytes, _OPENING_BYTES + HEADER_BYTES + body_bytes)


def create_segment(files: Files, directory: str, number: int, opening: Opening) -> Segment:
    """A new one, durable under its name. Raises OSError; then a part of it may remain until the next start."""
    path = f"{directory}/{segment_name(number)}"
    new = path + NEW_SUFFIX
    body = encode_opening(opening)
    head = encode_frame(FrameKind.SEGMENT, number, 0, body) + body
    try:
        file = files.open(new, create=True)
        try:
            for position in range(0, opening.size, len(_ZEROS)):
                file.pwritev([_ZEROS[: opening.size - position]], position)
            file.pwritev([head], 0)
            file.sync()
        except BaseException:
            file.close()
            raise
        files.rename(new, path)
    except OSError:
        with suppress(OSError):  # the disk may be full, and the first error is the one that says so
            files.remove(new)
        raise
    files.sync_directory(directory)
    segment = Segment(path, number, opening.size, len(head))
    segment.file = file
    return segment


def read_opening(content: bytes, path: str, number: int, member: Member) -> tuple[Opening, Frame]:
    """What a segment begins with. Raises CorruptLog, or StorageError when it is none of this member's or version's."""
    frame = read_frame(content, number, 0)
    if frame is None or frame.kind is not FrameKind.SEGMENT:
        raise damage(path, 0, "the segment's opening is unreadable")
    try:
        check_version(path, decode_version(frame.body))
        opening = decode_opening(frame.body)
    except DecodeError as error:
        raise damage(path, 0, str(error)) from error
    if opening.member != member:
        raise StorageError(
            f"{path} is of the metadata log of {_full(opening.member)}, and this node is {_full(member)}: each node "
            "keeps its own data directory, and one that lost it comes back by `ottla node replace`"
        )
    return opening, frame


def peek_opening(files: Files, path: str, number: int, member: Member) -> Opening:
    """As `read_opening`, without reading the whole file."""
    file = files.open(path)
    try:
        return read_opening(file.pread(_OPENING_BYTES, 0), path, number, member)[0]
    finally:
        file.close()


def _full(member: Member) -> str:
    return f"node {member.node} with the directory id {member.directory.hex()}"
