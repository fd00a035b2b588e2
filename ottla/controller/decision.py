"""What a decision of the controller consists of: records to commit, and the answer to give once they are.

Decisions are pure functions of the image and a request. They never change the image: that is the replay's part.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.v1 import metadata_pb2 as pb

R = TypeVar("R")


@dataclass(slots=True)
class Decision(Generic[R]):
    """`records` are committed as one batch, whole or not at all; without any, `result` is given at once."""

    result: R
    records: list[pb.MetadataRecord] = field(default_factory=list)


def refuse_duplicates(count: int, what: str) -> None:
    """Raises ApiError(INVALID_REQUEST) when one request names the same thing more than once."""
    if count > 1:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"The same {what} stands more than once in the request.")
