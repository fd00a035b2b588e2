"""Requests of the Kafka protocol that nodes put to each other: to the leader of a partition, to a coordinator.

They travel as control frames, over the connections of replicas or the mesh, so whoever asks has proved that it belongs
to the cluster; doors refuse these requests, or these versions of them, from clients. The asked node does what it does
for itself (`handlers.ASKED`). Unlike `forwarding`, nothing is repeated here: whom to ask next, only the asker knows.

What is put to a node again arrives after the first attempt, or that one is refused: else a marker could arrive when its
transaction's successor is under way. On one connection that is so by itself; but an attempt whose connection broke may
lie there unread while the next one comes another way. So each process counts its questions, and the asked node takes
none that is older than the newest that it has taken.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ottla.broker.control.calls import Answer, Calls
from ottla.broker.handlers import ASKED, asked_of_node
from ottla.broker.transactions import grants
from ottla.core.errors import ApiError, DecodeError, ErrorCode
from ottla.core.ports import Random
from ottla.core.types import NodeId
from ottla.protocol.apis import ApiKey, request_class, response_class, supports
from ottla.protocol.message import Message
from ottla.v1 import control_pb2 as pb

if TYPE_CHECKING:
    from ottla.broker.broker import Broker

_PROCESSES: Final = 1 << 64


class Asking:
    """Both sides of one node."""

    def __init__(self, broker: "Broker", calls: Calls, random: Random) -> None:
        self._broker, self._calls = broker, calls
        self._process = random.randrange(1, _PROCESSES)
        self._newest: dict[NodeId, tuple[int, int]] = {}  # process and call
        calls.take("ask", self._asked)
        calls.hear("grants", self._granted)

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
        question = pb.ControlForward(
            api_key=api_key, api_version=api_version, request=request.encode(api_version), process=self._process
        )
        answered = partial(_answered, node, api_key, api_version, done)
        self._calls.ask(node, pb.ControlFrame(ask=question), answered, timeout_ms=timeout_ms)

    def _asked(self, node: NodeId, frame: pb.ControlFrame, answer: Answer) -> None:
        question = frame.ask
        if question.api_key not in ASKED or not supports(question.api_key, question.api_version):
            what = f"API {question.api_key} in version {question.api_version}"
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"{what} is no matter between nodes.")
        self._check_order(node, question.process, frame.call)
        api_key, api_version = ApiKey(question.api_key), question.api_version
        try:
            request, _ = request_class(api_key).decode(question.request, api_version)
        except DecodeError as error:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{api_key.name}: {error}") from None
        asked_of_node(api_key)(self._broker, api_version, request, partial(_answer, answer, api_version))

    def grant(self, node: NodeId, grants: list[pb.ControlGrant]) -> None:
        """Tell the leaders of partitions that transactions are under way there, before anything that is asked later."""
        self._calls.tell(node, pb.ControlFrame(grants=pb.ControlGrants(process=self._process, grants=grants)))

    def _granted(self, node: NodeId, frame: pb.ControlFrame) -> None:
        try:
            self._check_order(node, frame.grants.process, frame.call)
        except ApiError:  # the marker that ends it may have been among what came before
            return
        grants.take(self._broker, frame.grants.grants)

    def _check_order(self, node: NodeId, process: int, call: int) -> None:
        """Raise ApiError for what was overtaken. 0: a process of a version that has one way to this node only."""
        known, newest = self._newest.get(node, (0, 0))
        if process and process == known and call <= newest:
            raise ApiError(ErrorCode.NETWORK_EXCEPTION, "a later question of this node came before")
        self._newest[node] = process, call


def _answered(
    node: NodeId, api_key: ApiKey, api_version: int, done: Callable[[Any], None], frame: pb.ControlFrame | ApiError
) -> None:
    if isinstance(frame, ApiError):
        done(frame)
        return
    try:
        response, _ = response_class(api_key).decode(frame.forwarded.response, api_version)
    except DecodeError as error:
        done(ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, f"the answer of node {node} is unreadable: {error}"))
        return
    done(response)


def _answer(answer: Answer, api_version: int, response: Message) -> None:
    answer(pb.ControlFrame(forwarded=pb.ControlForwarded(response=response.encode(api_version))))
