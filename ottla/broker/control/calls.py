"""Questions to other nodes and their answers, matched by number over the links of the mesh.

A call fails when its link ends or its time is over; whether it was carried out is then unknown. Its answer may still
come, over a later link, and even to a later process of this node: so each process counts from a number of its own. A
question that arrives is answered by whoever serves its kind, in a task of its own: an answer may wait for a commit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from google.protobuf.message import DecodeError as ProtobufError

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.ports import Clock, Mesh, Random
from ottla.core.types import NodeId
from ottla.v1 import control_pb2 as pb

logger = structlog.get_logger(__name__)

Server = Callable[[NodeId, pb.ControlFrame], Awaitable[pb.ControlFrame]]
"""Answers a question of one kind; the number of the answer is filled in."""

StreamServer = Callable[[NodeId, pb.ControlFrame], Awaitable[None]]

ANSWERS: Final = frozenset({"refusal", "forwarded", "registered", "beat_answer"})
STILL_MS: Final = 100.0
"""How often it is looked whether an answer is still wanted."""

_FIRST_CALLS: Final = 1 << 62

MAX_SERVED: Final = 1_000
"""Questions of one node that are being answered at a time; beyond it they are refused."""


class Unreachable(ApiError):
    """The other node cannot be asked, or hung up before it answered."""

    def __init__(self, node: NodeId, why: str) -> None:
        super().__init__(ErrorCode.NETWORK_EXCEPTION, f"node {node}: {why}")


class LinkListener:
    """What else wants to hear of links: overridden in part."""

    def linked(self, node: NodeId) -> None:
        """Frames pass from now on."""

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        """They do not any more."""

    def refused(self, node: NodeId) -> None:
        """Nothing listens there."""


class Calls:
    """Implements `MeshEvents`. A node may ask itself, too: that takes no link."""

    def __init__(self, node_id: NodeId, mesh: Mesh, clock: Clock, random: Random) -> None:
        self.node_id = node_id
        self._mesh, self._clock = mesh, clock
        self._count = random.randrange(0, _FIRST_CALLS)
        self._waiting: dict[int, tuple[NodeId, asyncio.Future[pb.ControlFrame]]] = {}
        self._streams: dict[tuple[NodeId, int], Callable[[pb.ControlFrame | None], None]] = {}
        self._servers: dict[str, Server] = {}
        self._stream_servers: dict[str, StreamServer] = {}
        self._served: dict[NodeId, set[asyncio.Task[None]]] = {}
        self._listeners: list[LinkListener] = []

    def start(self) -> None:
        """Hear of links and frames from now on: whoever serves has said so before."""
        self._mesh.attach(self)

    def serve(self, kind: str, server: Server) -> None:
        """`kind`: the name of the field of `ControlFrame.body` that carries the question."""
        self._servers[kind] = server

    def serve_stream(self, kind: str, server: StreamServer) -> None:
        """As `serve`, for a question whose answer is a stream: `server` sends its frames by `push`."""
        self._stream_servers[kind] = server

    def listen(self, listener: LinkListener) -> None:
        self._listeners.append(listener)

    def is_linked(self, node: NodeId) -> bool:
        return node == self.node_id or self._mesh.is_linked(node)

    # -- asking

    async def call(self, node: NodeId, question: pb.ControlFrame, *, timeout_ms: float) -> pb.ControlFrame:
        """The answer. Raises Unreachable, and ApiError for a refusal."""
        if node == self.node_id:
            answer = await self._answer(node, question)
        else:
            answer = await self._ask(node, question, timeout_ms)
        if answer.WhichOneof("body") == "refusal":
            raise ApiError(_code(answer.refusal.error_code), answer.refusal.message)
        return answer

    async def call_while(
        self, still: Callable[[], bool], node: NodeId, question: pb.ControlFrame, *, timeout_ms: float
    ) -> pb.ControlFrame:
        """As `call`, but given up when `still()` is not true any more. Raises Unreachable then.

        A node that was paused, or whose machine is gone, keeps its link for seconds; who waits for it as the controller
        must not, once another one is.
        """
        asking = asyncio.ensure_future(self.call(node, question, timeout_ms=timeout_ms))
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=STILL_MS / 1000)
                if not asking.done() and not still():
                    raise Unreachable(node, "it is not the one to ask any more")
        finally:
            asking.cancel()
        return asking.result()

    def ask(
        self,
        node: NodeId,
        question: pb.ControlFrame,
        done: Callable[[pb.ControlFrame | ApiError], None],
        *,
        timeout_ms: float,
    ) -> None:
        """As `call`, without a task for whoever asks: `done` gets the answer, or the error, in a later turn."""

        def ended(future: "asyncio.Future[pb.ControlFrame]") -> None:
            if future.cancelled():
                done(Unreachable(node, "this node stops"))
            elif (error := future.exception()) is not None:
                if not isinstance(error, ApiError):
                    raise error
                done(error)
            elif (answer := future.result()).WhichOneof("body") == "refusal":
                done(ApiError(_code(answer.refusal.error_code), answer.refusal.message))
            else:
                done(answer)

        if node == self.node_id:
            asked: asyncio.Future[pb.ControlFrame] = asyncio.ensure_future(self._answer(node, question))
        else:
            asked = self._ask(node, question, timeout_ms)
        asked.add_done_callback(ended)

    def _ask(self, node: NodeId, question: pb.ControlFrame, timeout_ms: float) -> "asyncio.Future[pb.ControlFrame]":
        future: asyncio.Future[pb.ControlFrame] = asyncio.get_running_loop().create_future()
        self._count += 1
        number = question.call = self._count
        if not self._mesh.send_frame(node, question.SerializeToString()):
            future.set_exception(Unreachable(node, "there is no connection to it"))
            return future
        self._waiting[number] = node, future
        timer = self._clock.call_later(timeout_ms, self._fail, number, f"no answer within {timeout_ms:.0f} ms")

        def ended(_: object) -> None:
            timer.cancel()
            self._waiting.pop(number, None)

        future.add_done_callback(ended)
        return future

    def stream(
        self, node: NodeId, question: pb.ControlFrame, receive: Callable[[pb.ControlFrame | None], None]
    ) -> Callable[[], None]:
        """Ask for a stream of frames: each comes to `receive`, and None when there will be no more. Returns what ends
        the interest in it. Raises Unreachable.
        """
        self._count += 1
        number = question.call = self._count
        if not self._mesh.send_frame(node, question.SerializeToString()):
            raise Unreachable(node, "there is no connection to it")
        key = (node, number)
        self._streams[key] = receive
        return lambda: _forget(self._streams, key)

    def push(self, node: NodeId, frame: pb.ControlFrame) -> bool:
        """One more frame of a stream that this node was asked for; False when it cannot go out."""
        return self._mesh.send_frame(node, frame.SerializeToString())

    def _fail(self, number: int, why: str) -> None:
        node, future = self._waiting.get(number, (NodeId(-1), None))
        if future is not None and not future.done():
            future.set_exception(Unreachable(node, why))

    # -- events of the mesh

    def linked(self, node: NodeId) -> None:
        for listener in self._listeners:
            listener.linked(node)

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        for number, (asked, _) in tuple(self._waiting.items()):
            if asked == node:
                self._fail(number, "the connection to it broke")
        for key in [key for key in self._streams if key[0] == node]:
            self._streams.pop(key)(None)
        for listener in self._listeners:
            listener.unlinked(node, broken=broken)

    def refused(self, node: NodeId) -> None:
        for listener in self._listeners:
            listener.refused(node)

    def received(self, node: NodeId, frame: bytes) -> None:
        try:
            message = pb.ControlFrame.FromString(frame)
        except ProtobufError:
            logger.warning("a control frame is unreadable and was dropped", peer=node, bytes=len(frame))
            return
        kind = message.WhichOneof("body")
        if kind in ANSWERS:
            asked, future = self._waiting.get(message.call, (None, None))
            if asked == node and future is not None and not future.done():
                future.set_result(message)
            elif (receive := self._streams.pop((node, message.call), None)) is not None:
                receive(None)  # a refusal: there will be no more
        elif kind == "observed":
            receive = self._streams.get((node, message.call))
            if receive is not None:
                receive(message)
        else:
            self._serve(node, message)

    # -- answering

    def _serve(self, node: NodeId, question: pb.ControlFrame) -> None:
        tasks = self._served.setdefault(node, set())
        if len(tasks) >= MAX_SERVED:
            busy = _refusal(ErrorCode.THROTTLING_QUOTA_EXCEEDED, f"node {self.node_id} is busy; try again later")
            self._send_answer(node, question.call, busy)
            return
        task = asyncio.get_running_loop().create_task(self._serve_one(node, question))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _serve_one(self, node: NodeId, question: pb.ControlFrame) -> None:
        streams = self._stream_servers.get(question.WhichOneof("body") or "")
        if streams is not None:
            await streams(node, question)
            return
        self._send_answer(node, question.call, await self._answer(node, question))

    def _send_answer(self, node: NodeId, number: int, answer: pb.ControlFrame) -> None:
        answer.call = number
        self._mesh.send_frame(node, answer.SerializeToString())  # when it cannot go out, the asker hears of the link

    async def _answer(self, node: NodeId, question: pb.ControlFrame) -> pb.ControlFrame:
        kind = question.WhichOneof("body") or ""
        server = self._servers.get(kind)
        if server is None:  # a newer version asks, or this node's broker has not started yet
            return _refusal(ErrorCode.BROKER_NOT_AVAILABLE, f"node {self.node_id} does not answer {kind or 'this'} now")
        try:
            return await server(node, question)
        except ApiError as error:
            return _refusal(error.code, str(error))
        except Exception as error:  # a defect: the asker is told, and this node goes on
            logger.exception("a question of another node could not be answered", peer=node, kind=kind)
            return _refusal(ErrorCode.UNKNOWN_SERVER_ERROR, f"node {self.node_id}: {error!r}")


def _refusal(code: ErrorCode, message: str) -> pb.ControlFrame:
    return pb.ControlFrame(refusal=pb.ControlRefusal(error_code=code, message=message))


def _code(number: int) -> ErrorCode:
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR


def _forget(
    streams: dict[tuple[NodeId, int], Callable[[pb.ControlFrame | None], None]], key: tuple[NodeId, int]
) -> None:
    streams.pop(key, None)
