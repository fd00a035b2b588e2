"""Requests of the Kafka protocol that nodes put to each other: to the leader of a partition, to a coordinator.

They travel as control frames of the mesh, so whoever asks has proved that it belongs to the cluster; doors refuse these
requests, or these versions of them, from clients. The asked node runs the same handler as for a client, with the
asking node in the context. Unlike `forwarding`, nothing is repeated here: whom to ask next, only the asker knows.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ottla.broker.context import RequestContext
from ottla.broker.control.calls import Calls
from ottla.broker.handlers import handler
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.core.types import NodeId
from ottla.protocol.apis import ApiKey, request_class, response_class, supports
from ottla.protocol.message import Message
from ottla.v1 import control_pb2 as pb

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

ASKED: Final = frozenset({ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.WRITE_TXN_MARKERS})

OTHER_NODE: Final = "OTTLA"
"""The listener of such requests: there are no endpoints in their answers."""


class Asking:
    """Both sides of one node."""

    def __init__(self, broker: "Broker", calls: Calls) -> None:
        self._broker, self._calls = broker, calls
        calls.serve("ask", self._serve)

    def ask(
        self,
        node: NodeId,
        api_key: ApiKey,
        api_version: int,
        request: Message,
        done: Callable[[Any], None],
        *,
        timeout_ms: float,
    ) -> None:
        """`done` gets the response, or an ApiError when there is none: NETWORK_EXCEPTION when it is unknown whether the
        request was carried out. In a later turn of the loop, exactly once. Raises EncodeError for a request that does
        not fit its fields: doors let none of them in.
        """

        def answered(frame: pb.ControlFrame | ApiError) -> None:
            if isinstance(frame, ApiError):
                done(frame)
                return
            try:
                response, _ = response_class(api_key).decode(frame.forwarded.response, api_version)
            except DecodeError as error:
                done(ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, f"the answer of node {node} is unreadable: {error}"))
                return
            done(response)

        question = pb.ControlForward(api_key=api_key, api_version=api_version, request=request.encode(api_version))
        self._calls.ask(node, pb.ControlFrame(ask=question), answered, timeout_ms=timeout_ms)

    async def _serve(self, node: NodeId, frame: pb.ControlFrame) -> pb.ControlFrame:
        question = frame.ask
        if question.api_key not in ASKED or not supports(question.api_key, question.api_version):
            what = f"API {question.api_key} in version {question.api_version}"
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"{what} is no matter between nodes.")
        api_key = ApiKey(question.api_key)
        try:
            request, _ = request_class(api_key).decode(question.request, question.api_version)
        except DecodeError as error:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{api_key.name}: {error}") from None
        context = RequestContext(listener=OTHER_NODE, api_version=question.api_version, node=node)
        response = await handler(api_key)(self._broker, request, context)
        return pb.ControlFrame(forwarded=pb.ControlForwarded(response=response.encode(question.api_version)))
