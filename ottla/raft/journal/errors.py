"""What the journal's refusals say alike."""

from typing import Final

from ottla.core.errors import CorruptLog, StorageError
from ottla.raft.journal.frames import FORMAT_VERSION

ADVICE: Final = (
    "The metadata log must not be cut short, as this node may have voted for it or acknowledged it: restore the file "
    "undamaged, or give this node an empty disk and bring it back with "
    "`ottla node replace`"
)


def damage(path: str, position: int, reason: str) -> CorruptLog:
    """The error for bytes that are not what was written."""
    return CorruptLog(path, position, reason, ADVICE)


def check_version(path: str, version: int) -> None:
    """Raises StorageError for a format of a newer version."""
    if version > FORMAT_VERSION:
        raise StorageError(
            f"{path} has format {version}, of a newer version of Ottla; this one reads up to {FORMAT_VERSION}: "
            "start the newer version"
        )
