"""What the command's exit code tells a script. Documented in `docs/cli.md`; a number never changes its meaning."""

from enum import IntEnum

from ottla.core.errors import ConfigError, DecodeError, ErrorCode, StorageError


class Exit(IntEnum):
    """Exit codes of `ottla`."""

    DONE = 0
    FAILED = 1
    USAGE = 2  # a wrong flag, argument or configuration
    UNREACHABLE = 3  # no node answered in time
    NOT_FOUND = 4  # no such topic, partition, config or group
    EXISTS = 5
    DAMAGED = 6  # files that are not what they should be
    NOT_YET = 7  # what was asked for is not there yet, and is expected
    INTERRUPTED = 130


_BY_CODE = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: Exit.NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_ID: Exit.NOT_FOUND,
    ErrorCode.RESOURCE_NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.GROUP_ID_NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.TRANSACTIONAL_ID_NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.TOPIC_ALREADY_EXISTS: Exit.EXISTS,
    ErrorCode.REQUEST_TIMED_OUT: Exit.UNREACHABLE,
    ErrorCode.NETWORK_EXCEPTION: Exit.UNREACHABLE,
    ErrorCode.BROKER_NOT_AVAILABLE: Exit.UNREACHABLE,
    ErrorCode.INVALID_CONFIG: Exit.USAGE,
    ErrorCode.INVALID_TOPIC_EXCEPTION: Exit.USAGE,
    ErrorCode.INVALID_PARTITIONS: Exit.USAGE,
    ErrorCode.INVALID_REPLICATION_FACTOR: Exit.USAGE,
}


def exit_code(error: Exception) -> Exit:
    """The exit code that tells about `error`."""
    if isinstance(error, ConfigError):
        return Exit.USAGE
    if isinstance(error, StorageError | DecodeError):
        return Exit.DAMAGED
    code = getattr(error, "code", None)  # of ApiError, and of the client's errors, which are not loaded here
    if isinstance(code, ErrorCode):
        return _BY_CODE.get(code, Exit.FAILED)
    return Exit.FAILED
