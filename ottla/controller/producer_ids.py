"""The decision on producer ids: a broker gets a block, and hands its ids out by itself (KIP-730)."""

from dataclasses import dataclass
from typing import Final

from ottla.controller.decision import Decision
from ottla.controller.image import MetadataImage
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId
from ottla.v1 import metadata_pb2 as pb

BLOCK_SIZE: Final = 1000
_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ProducerIdBlock:
    """Ids from `first` to `first + size - 1`."""

    first: int
    size: int


def allocate_producer_ids(image: MetadataImage, broker_id: NodeId) -> Decision[ProducerIdBlock]:
    """The next block. Raises ApiError when the broker is not registered or all ids are used up."""
    if broker_id not in image.brokers:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {broker_id} is not registered.")
    first = image.next_producer_id
    if first > _MAX - BLOCK_SIZE:
        raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, "All producer ids of this cluster are used up.")
    record = pb.ProducerIdsRecord(broker_id=broker_id, next_producer_id=first + BLOCK_SIZE)
    return Decision(ProducerIdBlock(first, BLOCK_SIZE), [pb.MetadataRecord(producer_ids=record)])
