"""The decision on producer ids: a broker gets a block, and hands its ids out by itself (KIP-730).

A cluster's ids begin where its own id says. A mirrored log holds the ids of the cluster that it comes from, and goes on
with those of the cluster in which it is promoted: were they the same, one producer's sequences would be taken for
another's. They stay below 2^53, so that whoever reads them as floating point numbers reads them right.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from ottla.controller.decision import Decision
from ottla.controller.image import MetadataImage
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId, Uuid
from ottla.v1 import metadata_pb2 as pb

BLOCK_SIZE: Final = 1000
_MAX: Final = 2**63 - 1
_RANGE_BITS: Final = 32  # a thousand new producers a second for fifty days, ten for thirteen years
_RANGES: Final = (1 << (53 - _RANGE_BITS)) - 1


@dataclass(frozen=True, slots=True)
class ProducerIdBlock:
    """Ids from `first` to `first + size - 1`."""

    first: int
    size: int


def first_producer_id(cluster_id: Uuid) -> int:
    """Where the ids of a cluster begin: in one of two million ranges, but not the first, which older clusters have."""
    digest = int.from_bytes(blake2b(bytes(cluster_id), digest_size=8).digest())
    return (1 + digest % _RANGES) << _RANGE_BITS


def allocate_producer_ids(image: MetadataImage, broker_id: NodeId) -> Decision[ProducerIdBlock]:
    """The next block. Raises ApiError when the broker is not registered or all ids are used up."""
    if broker_id not in image.brokers:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {broker_id} is not registered.")
    first = image.next_producer_id
    if first > _MAX - BLOCK_SIZE:
        raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, "All producer ids of this cluster are used up.")
    record = pb.ProducerIdsRecord(broker_id=broker_id, next_producer_id=first + BLOCK_SIZE)
    return Decision(ProducerIdBlock(first, BLOCK_SIZE), [pb.MetadataRecord(producer_ids=record)])
