"""What a decision of the controller consists of: records to commit, and the answer to give once they are.

Decisions are pure functions of the image and a request. They never change the image: that is the replay's part.
"""

from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.v1 import metadata_pb2 as pb

R = TypeVar("R")

_FRAME_BYTES: Final = 6  # of a record within a batch, at most


@dataclass(slots=True)
class Decision(Generic[R]):
    """`records` are committed as one batch, whole or not at all; without any, `result` is given at once.

    A batch that would be too large for one entry is committed in several, in order, when that does no harm: before
    each record where it is `splittable`, else at `breaks`, which are positions in `records` where something whole ends.
    """

    result: R
    records: list[pb.MetadataRecord] = field(default_factory=list)
    splittable: bool = False
    breaks: list[int] = field(default_factory=list)

    def batches(self, limit_bytes: int) -> list[list[pb.MetadataRecord]]:
        """`records` in batches of at most `limit_bytes`, but for what must stay together."""
        ends = range(1, len(self.records) + 1) if self.splittable else [*self.breaks, len(self.records)]
        batches: list[list[pb.MetadataRecord]] = []
        start, size = 0, limit_bytes
        for end in ends:
            unit = self.records[start:end]
            unit_bytes = sum(record.ByteSize() + _FRAME_BYTES for record in unit)
            if size + unit_bytes > limit_bytes:
                batches.append([])
                size = 0
            batches[-1] += unit
            start, size = end, size + unit_bytes
        return batches


def refuse_duplicates(count: int, what: str) -> None:
    """Raises ApiError(INVALID_REQUEST) when one request names the same thing more than once."""
    if count > 1:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"The same {what} stands more than once in the request.")
