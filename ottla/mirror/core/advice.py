"""What to say of an error that a partition meets: on which side, and what may be done about it."""

from collections.abc import Mapping
from typing import Final

from ottla.core.errors import ErrorCode

_GONE: Final = "it is not there, or another one of its name now"

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
}

# What kind of resource a right is missing on; names as in Kafka's ACLs.
_RESOURCES: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "topic",
    ErrorCode.GROUP_AUTHORIZATION_FAILED: "group",
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "cluster",
}
DENIED: Final = frozenset(_RESOURCES)


def told(alias: str, error: Exception, code: ErrorCode) -> str:
    """The error as `status` shows it."""
    advice = ADVICE.get(code)
    return f"{alias}: {error}" if advice is None else f"{alias}: {error} ({advice})"


def denial(code: ErrorCode, alias: str, principal: str, right: str, name: str) -> str:
    """Which right is missing in which cluster, and to whom. `code` is one of `DENIED`; `name`: of its resource."""
    kind = _RESOURCES[code]
    resource = kind if code is ErrorCode.CLUSTER_AUTHORIZATION_FAILED else f"{kind} {name}"
    return f"{alias} denies {right} on {resource} to {principal}: allow it by an ACL there"
