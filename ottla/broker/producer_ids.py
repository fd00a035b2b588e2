"""Producer ids: numbers that no other producer of the cluster ever gets; and InitProducerId.

A producer without a transactional id needs nothing else; of the others `transactions` knows, which is imported when
the first of them comes.
"""

import asyncio
from typing import Final

from ottla.broker.broker import Broker
from ottla.broker.context import RequestContext
from ottla.controller.producer_ids import ProducerIdBlock
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.types import NodeId
from ottla.protocol.messages.allocate_producer_ids_request import AllocateProducerIdsRequest
from ottla.protocol.messages.allocate_producer_ids_response import AllocateProducerIdsResponse
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.init_producer_id_response import InitProducerIdResponse

NO_PRODUCER_ID: Final = -1
NO_PRODUCER_EPOCH: Final = -1
PRODUCERS_AT_MOST: Final = 10_000_000
"""That this node remembers, over all partitions: about a gigabyte. Beyond it new ones come slowly, until old ones have
been silent for `producer.id.expiration.ms`; what is known of a producer is never given up before."""
THROTTLED_S: Final = 0.1
"""How long each new id takes then: a million a day."""


class ProducerIds:
    """Hands out ids from the controller's blocks. What is left of a block when the broker stops is never used."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._block = ProducerIdBlock(0, 0)
        self._used = 0
        self._lock = asyncio.Lock()

    async def next(self) -> int:
        """A new id. Raises ApiError when the controller gives no block."""
        async with self._lock:
            if self._broker.partitions.producer_count >= PRODUCERS_AT_MOST:
                await asyncio.sleep(THROTTLED_S)
            if self._used == self._block.size:
                self._block = await self._broker.controller.allocate_producer_ids(self._broker.epoch)
                self._used = 0
            self._used += 1
            return self._block.first + self._used - 1


def producer_ids(broker: Broker) -> ProducerIds:
    """Where a broker takes them from."""
    ids: ProducerIds | None = broker.extensions.get("producer_ids")
    if ids is None:
        ids = broker.extensions["producer_ids"] = ProducerIds(broker)
    return ids


async def init_producer_id(
    broker: Broker, request: InitProducerIdRequest, context: RequestContext
) -> InitProducerIdResponse:
    """A producer without a transactional id gets a new id with epoch 0 each time, whatever id it had."""
    if request.transactional_id is not None:
        from ottla.broker.transactions import handlers

        return await handlers.init_producer_id(broker, request, context)
    try:
        return InitProducerIdResponse(producer_id=await producer_ids(broker).next(), producer_epoch=0)
    except ApiError as error:
        # Kafka's producers know how to wait for this one.
        code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if error.code is ErrorCode.NOT_CONTROLLER else error.code
        return InitProducerIdResponse(error_code=code, producer_id=NO_PRODUCER_ID, producer_epoch=NO_PRODUCER_EPOCH)


async def allocate_producer_ids(
    broker: Broker, request: AllocateProducerIdsRequest, context: RequestContext
) -> AllocateProducerIdsResponse:
    """Another broker wants a block of ids of the active controller (KIP-730)."""
    try:
        block = await broker.controller.local.allocate_producer_ids(NodeId(request.broker_id))
    except ApiError as error:
        return AllocateProducerIdsResponse(error_code=error.code)
    return AllocateProducerIdsResponse(producer_id_start=block.first, producer_id_len=block.size)
