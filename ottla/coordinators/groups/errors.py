"""What a client is told when the runtime, and not the state of its group, refuses it."""

from ottla.coordinators.errors import coordinator_error as group_error
from ottla.core.error_codes import ErrorCode

__all__ = ["commit_error", "group_error"]

_TOO_LARGE = {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE}


def commit_error(code: ErrorCode) -> ErrorCode:
    """In terms of OffsetCommit, which can say that it is too large."""
    return ErrorCode.INVALID_COMMIT_OFFSET_SIZE if code in _TOO_LARGE else group_error(code)
