"""What to say of an error that a partition meets: on which side, and what may be done about it."""

from collections.abc import Mapping
from typing import Final

from ottla.core.errors import ErrorCode

_GONE: Final = "it is not there, or another one of its name now"
_RIGHTS: Final = "the mirror lacks a right there"

ADVICE: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.KAFKA_STORAGE_ERROR: "a disk there is full or fails: make room, then start the node again",
    ErrorCode.LEADER_NOT_AVAILABLE: "none of its replicas is up and whole: look at the nodes and their disks",
    ErrorCode.CONCURRENT_TRANSACTIONS: (
        "the transaction before it has not ended there, as a partition that it wrote to takes nothing: "
        "look at the nodes and their disks"
    ),
    ErrorCode.NOT_ENOUGH_REPLICAS: "fewer replicas are in sync than min.insync.replicas: start nodes that are down",
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: _GONE,
    ErrorCode.UNKNOWN_TOPIC_ID: _GONE,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: _RIGHTS,
    ErrorCode.GROUP_AUTHORIZATION_FAILED: _RIGHTS,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: _RIGHTS,
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: _RIGHTS,
}


def told(alias: str, error: Exception, code: ErrorCode) -> str:
    """The error as `status` shows it."""
    advice = ADVICE.get(code)
    return f"{alias}: {error}" if advice is None else f"{alias}: {error} ({advice})"
