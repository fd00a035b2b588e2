"""Kafka's small text files: offset checkpoints of a data directory, leader epochs and metadata of a partition.

Each begins with a version line; a file that does not parse is an error that names it, since recovery relies on them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ottla.core.errors import StorageError
from ottla.core.ports import Files
from ottla.core.types import Uuid, format_uuid, parse_uuid

RECOVERY_POINT_FILE: Final = "recovery-point-offset-checkpoint"
LOG_START_FILE: Final = "log-start-offset-checkpoint"
HIGH_WATERMARK_FILE: Final = "replication-offset-checkpoint"
CLEANER_FILE: Final = "cleaner-offset-checkpoint"
LEADER_EPOCH_FILE: Final = "leader-epoch-checkpoint"
PARTITION_METADATA_FILE: Final = "partition.metadata"
DAMAGE_FILE: Final = "damage-found"  # what a reader found wrong, for the next start, which reads no contents

TopicPartition = tuple[str, int]


def encode_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    """One line `topic partition offset` for each partition."""
    lines = [f"{topic} {index} {offset}\n" for (topic, index), offset in sorted(offsets.items())]
    return f"0\n{len(lines)}\n{''.join(lines)}".encode()


def read_offsets(files: Files, path: str) -> dict[TopicPartition, int]:
    """Empty when there is no such file."""
    return {(topic, int(index)): int(offset) for topic, index, offset in _read_table(files, path, 3)}


def encode_epochs(entries: Iterable[tuple[int, int]]) -> bytes:
    """One line `epoch start_offset` for each leader epoch."""
    lines = [f"{epoch} {start}\n" for epoch, start in entries]
    return f"0\n{len(lines)}\n{''.join(lines)}".encode()


def read_epochs(files: Files, path: str) -> list[tuple[int, int]]:
    """Empty when there is no such file."""
    return [(int(epoch), int(start)) for epoch, start in _read_table(files, path, 2)]


def encode_partition_metadata(topic_id: Uuid) -> bytes:
    return f"version: 0\ntopic_id: {format_uuid(topic_id)}".encode()


def read_partition_metadata(files: Files, path: str) -> Uuid:
    text = files.read_bytes(path).decode(errors="replace")
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    try:
        if values["version"] != "0":
            raise StorageError(f"{path}: version {values['version']} is not known; a newer Ottla wrote it")
        return parse_uuid(values["topic_id"])
    except (KeyError, ValueError) as error:
        raise StorageError(f"{path} does not name a topic id: {text[:80]!r}") from error


def _read_table(files: Files, path: str, columns: int) -> list[Sequence[str]]:
    try:
        text = files.read_bytes(path).decode()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise StorageError(f"{path} is not a checkpoint file") from error
    lines = text.splitlines()
    rows = [line.split(" ") for line in lines[2:]]
    if len(lines) < 2 or lines[0] != "0" or lines[1] != str(len(rows)) or any(len(row) != columns for row in rows):
        raise StorageError(f"{path} is not a checkpoint file of version 0 with as many rows as it says")
    try:
        for row in rows:
            for number in row[columns - 2 :]:
                int(number)
    except ValueError as error:
        raise StorageError(f"{path} has a row that is no number: {error}") from error
    return list(rows)
