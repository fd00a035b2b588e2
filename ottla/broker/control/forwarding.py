"""Requests that only the active controller can carry out, put to it by whichever broker was asked (as KIP-590).

The controller's node runs the same handler. When its answer comes back, this node waits until it has applied what the
answer rests on, so that a client which asks this broker next finds what it has made.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ottla.broker.context import RequestContext
from ottla.broker.control.calls import Calls
from ottla.broker.control.listeners import Unreachable
from ottla.broker.handlers import BETWEEN_NODES, handler
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.apis import VERSIONS, ApiKey, request_class, response_class
from ottla.v1 import control_pb2 as pb

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

FORWARDED: Final = frozenset(
    {
        ApiKey.CREATE_TOPICS,
        ApiKey.DELETE_TOPICS,
        ApiKey.CREATE_PARTITIONS,
        ApiKey.ALTER_CONFIGS,
        ApiKey.INCREMENTAL_ALTER_CONFIGS,
        ApiKey.ALTER_PARTITION_REASSIGNMENTS,
        ApiKey.LIST_PARTITION_REASSIGNMENTS,
        ApiKey.ELECT_LEADERS,
        ApiKey.UPDATE_FEATURES,
        ApiKey.UNREGISTER_BROKER,
        ApiKey.DESCRIBE_QUORUM,
        ApiKey.ADD_RAFT_VOTER,
        ApiKey.REMOVE_RAFT_VOTER,
    }
)
"""What clients may ask any broker for."""

TIMEOUT_MS: Final = 30_000.0
ATTEMPT_TIMEOUT_MS: Final = 20_000.0
RETRY_MS: Final = 50.0
CATCH_UP_MS: Final = 5_000.0


class Forwarding:
    """Both sides: asks the active controller, and serves as one."""

    def __init__(self, broker: "Broker", calls: Calls) -> None:
        self._broker, self._calls = broker, calls
        calls.serve("forward", self._serve)

    async def ask(self, api_key: ApiKey, request: Any, context: RequestContext) -> Any:
        """The controller's answer. Raises ApiError: NOT_CONTROLLER when none was found in time."""
        broker = self._broker
        deadline_ms = broker.clock.monotonic_ms() + TIMEOUT_MS
        question = pb.ControlForward(
            api_key=api_key,
            api_version=context.api_version,
            request=request.encode(context.api_version),
            listener=context.listener,
            client_id=context.client_id or "",
        )
        while True:
            controller = broker.controller.active_id
            if controller is None or not self._calls.is_linked(controller):
                error = ApiError(ErrorCode.NOT_CONTROLLER, "The cluster has no active controller now; try again.")
            else:
                try:
                    return await self._attempt(controller, api_key, question)
                except Unreachable as lost:  # perhaps it was carried out; Kafka's brokers ask the next one likewise
                    error = ApiError(ErrorCode.REQUEST_TIMED_OUT, f"The controller did not answer: {lost}")
                except ApiError as refusal:
                    if refusal.code is not ErrorCode.NOT_CONTROLLER:
                        raise
                    error = refusal
            if broker.clock.monotonic_ms() >= deadline_ms:
                raise error
            await asyncio.sleep(RETRY_MS / 1000)

    async def _attempt(self, controller: NodeId, api_key: ApiKey, question: pb.ControlForward) -> Any:
        frame = pb.ControlFrame(forward=question)
        access = self._broker.controller
        answered = await self._calls.call_while(
            lambda: access.active_id == controller, controller, frame, timeout_ms=ATTEMPT_TIMEOUT_MS
        )
        answer = answered.forwarded
        response, _ = response_class(api_key).decode(answer.response, question.api_version)
        await self._catch_up(answer.metadata_offset)
        return response

    async def _catch_up(self, offset: int) -> None:
        """Until this node's image holds what the answer rests on, or it takes too long: then it will come later."""
        broker = self._broker
        if broker.controller.image.offset >= offset:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def published(image: Any, delta: Any) -> None:
            if image.offset >= offset and not reached.done():
                reached.set_result(None)

        end = broker.controller.subscribe(published)
        timer = broker.clock.call_later(CATCH_UP_MS, reached.cancel)
        try:
            await asyncio.wait([reached])
        finally:
            end()
            timer.cancel()

    async def _serve(self, node: NodeId, frame: pb.ControlFrame) -> pb.ControlFrame:
        question, broker = frame.forward, self._broker
        api_key = _api_key(question)
        if not broker.controller.is_active:
            raise ApiError(ErrorCode.NOT_CONTROLLER, f"Node {broker.settings.node_id} is not the active controller.")
        request, _ = request_class(api_key).decode(question.request, question.api_version)
        context = RequestContext(
            listener=question.listener, api_version=question.api_version, client_id=question.client_id or None
        )
        response = await handler(api_key)(broker, request, context)
        # The controller's image, not the broker's: that one follows it only once the broker is registered.
        forwarded = pb.ControlForwarded(
            response=response.encode(question.api_version), metadata_offset=broker.controller.image.offset
        )
        return pb.ControlFrame(forwarded=forwarded)


def _api_key(question: pb.ControlForward) -> ApiKey:
    known = VERSIONS.get(question.api_key)
    if known is None or not known[0] <= question.api_version <= known[1]:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"API {question.api_key} in version {question.api_version}.")
    api_key = ApiKey(question.api_key)
    if api_key not in FORWARDED and api_key not in BETWEEN_NODES:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{api_key.name} is not a matter of the controller.")
    return api_key
