"""Questions to other nodes and their answers, matched by number over the links of the mesh.

A call fails when its link ends or its time is over; whether it was carried out is then unknown. Its answer may still
come, over a later link, and even to a later process of this node: so each process counts from a number of its own. A
question that arrives is answered by whoever serves its kind, in a task of its own: an answer may wait for a commit.

Questions that are many (`ask`) do without task and future, and take the connections of replicas where there are any:
a frame of the mesh costs each side about ten times as much. Their answers come back the same way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError as ProtobufError

from ottla.broker.control.listeners import LinkListener, Unreachable
from ottla.broker.deadlines import Bucket, Deadlines
from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.core.ports import Clock, Mesh, Random
from ottla.core.types import NodeId
from ottla.v1 import control_pb2 as pb

logger = structlog.get_logger(__name__)

Server = Callable[[NodeId, pb.ControlFrame], Awaitable[pb.ControlFrame]]
"""Answers a question of one kind; the number of the answer is filled in."""

StreamServer = Callable[[NodeId, pb.ControlFrame], Awaitable[None]]

Answer = Callable[[pb.ControlFrame], None]
Taker = Callable[[NodeId, pb.ControlFrame, Answer], None]
"""As `Server`, by callback; raises ApiError only before it has answered."""

Hearer = Callable[[NodeId, pb.ControlFrame], None]
"""Takes what is not answered."""

Done = Callable[[pb.ControlFrame | ApiError], None]

ANSWERS: Final = frozenset({"refusal", "forwarded", "registered", "beat_answer"})
STILL_MS: Final = 100.0
"""How often it is looked whether an answer is still wanted."""

TICK_MS: Final = 250
"""Of the times after which there is no answer: they are seconds, and almost all questions are answered."""

_FIRST_CALLS: Final = 1 << 62

MAX_SERVED: Final = 1_000
"""Questions of one node that are being answered at a time; beyond it they are refused."""


class Direct(Protocol):
    """A cheaper way to some of the nodes."""

    def send_message(self, node: NodeId, message: bytes) -> bool:
        """False when it does not lead there now."""


class _Call:
    """One question that waits for its answer."""

    __slots__ = ("_expired", "bucket", "done", "is_direct", "node", "number", "timeout_ms")

    def __init__(
        self,
        number: int,
        node: NodeId,
        done: Done,
        timeout_ms: float,
        is_direct: bool,
        expired: "Callable[[_Call], None]",
    ) -> None:
        self.number, self.node, self.done, self.timeout_ms, self.is_direct = number, node, done, timeout_ms, is_direct
        self.bucket: Bucket = {}
        self._expired = expired

    def expire(self) -> None:
        """See `Expiring`."""
        self._expired(self)


class _Taken:
    """A question that a taker answers, once."""

    __slots__ = ("_answer", "_call", "_is_open", "_node", "_taken")

    def __init__(self, node: NodeId, call: int, answer: Answer, taken: dict[NodeId, int]) -> None:
        self._node, self._call, self._answer, self._taken = node, call, answer, taken
        self._is_open = True
        taken[node] = taken.get(node, 0) + 1

    def answered(self, frame: pb.ControlFrame) -> None:
        """It is; what comes after the first answer is none."""
        if self._is_open:
            self._is_open = False
            self._taken[self._node] -= 1
            frame.call = self._call
            self._answer(frame)


class Calls:
    """Implements `MeshEvents`. A node may ask itself, too: that takes no link."""

    def __init__(self, node_id: NodeId, mesh: Mesh, clock: Clock, random: Random) -> None:
        self.node_id = node_id
        self._mesh, self._clock = mesh, clock
        self._count = random.randrange(0, _FIRST_CALLS)
        self._deadlines = Deadlines(clock, tick_ms=TICK_MS)
        self._direct: Direct | None = None
        self._waiting: dict[int, _Call] = {}
        self._streams: dict[tuple[NodeId, int], Callable[[pb.ControlFrame | None], None]] = {}
        self._servers: dict[str, Server] = {}
        self._stream_servers: dict[str, StreamServer] = {}
        self._served: dict[NodeId, set[asyncio.Task[None]]] = {}
        self._takers: dict[str, Taker] = {}
        self._hearers: dict[str, Hearer] = {}
        self._taken: dict[NodeId, int] = {}  # questions that a taker has not answered
        self._listeners: list[LinkListener] = []

    def start(self) -> None:
        """Hear of links and frames from now on: whoever serves has said so before."""
        self._mesh.attach(self)

    def serve(self, kind: str, server: Server) -> None:
        """`kind`: the name of the field of `ControlFrame.body` that carries the question."""
        self._servers[kind] = server

    def take(self, kind: str, taker: Taker) -> None:
        """As `serve`, without a task for each question."""
        self._takers[kind] = taker

    def hear(self, kind: str, hearer: Hearer) -> None:
        """What other nodes `tell`."""
        self._hearers[kind] = hearer

    def use(self, direct: Direct) -> None:
        """Ask that way where it leads; what it brings comes to `asked`, `answered` and `lost`."""
        self._direct = direct

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

    def ask(self, node: NodeId, question: pb.ControlFrame, done: Done, *, timeout_ms: float) -> None:
        """As `call`, without task and future: `done` gets the answer, or the error, in a later turn of the loop."""
        ended = partial(self._tell_asker, done)
        if node == self.node_id:
            self._clock.call_soon(self._serve, node, question, question.WhichOneof("body") or "", ended)
        else:
            self._put(node, question, ended, timeout_ms, direct=self._direct)

    def _tell_asker(self, done: Done, answer: pb.ControlFrame | ApiError) -> None:
        if not isinstance(answer, ApiError) and answer.HasField("refusal"):
            answer = ApiError(_code(answer.refusal.error_code), answer.refusal.message)
        self._clock.call_soon(done, answer)  # a defect there must not end the connection that brought it

    def tell(self, node: NodeId, frame: pb.ControlFrame) -> None:
        """Say something that is not answered, by the connection of replicas; where there is none it is not said."""
        if self._direct is not None:
            self._count += 1
            frame.call = self._count
            self._direct.send_message(node, frame.SerializeToString())

    def _ask(self, node: NodeId, question: pb.ControlFrame, timeout_ms: float) -> "asyncio.Future[pb.ControlFrame]":
        future: asyncio.Future[pb.ControlFrame] = asyncio.get_running_loop().create_future()

        def ended(answer: pb.ControlFrame | ApiError) -> None:
            if future.done():
                return
            if isinstance(answer, ApiError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        number = self._put(node, question, ended, timeout_ms)
        if number is not None:
            future.add_done_callback(lambda _: self._pop(number))
        return future

    def _put(
        self, node: NodeId, question: pb.ControlFrame, done: Done, timeout_ms: float, *, direct: Direct | None = None
    ) -> int | None:
        """Send it; its number while it is under way."""
        self._count += 1
        number = question.call = self._count
        frame = question.SerializeToString()
        is_direct = direct is not None and direct.send_message(node, frame)
        if not is_direct and not self._mesh.send_frame(node, frame):
            done(Unreachable(node, "there is no connection to it"))
            return None
        call = self._waiting[number] = _Call(number, node, done, timeout_ms, is_direct, self._expired)
        call.bucket = self._deadlines.enter(call, timeout_ms)
        return number

    def _pop(self, number: int) -> _Call | None:
        call = self._waiting.pop(number, None)
        if call is not None:
            self._deadlines.leave(call, call.bucket)
        return call

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

    def _expired(self, call: _Call) -> None:
        self._fail(call.number, f"no answer within {call.timeout_ms:.0f} ms")

    def _fail(self, number: int, why: str) -> None:
        call = self._pop(number)
        if call is not None:
            call.done(Unreachable(call.node, why))

    def _fail_all(self, node: NodeId, *, direct: bool) -> None:
        for number, call in tuple(self._waiting.items()):
            if call.node == node and call.is_direct is direct:
                self._fail(number, "the connection to it broke")

    # -- events of the mesh

    def linked(self, node: NodeId) -> None:
        for listener in self._listeners:
            listener.linked(node)

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        self._fail_all(node, direct=False)
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
        kind = message.WhichOneof("body") or ""
        if kind in ANSWERS:
            call = self._waiting.get(message.call)
            if call is not None and call.node == node:
                self._pop(message.call)
                call.done(message)
            elif (receive := self._streams.pop((node, message.call), None)) is not None:
                receive(None)  # a refusal: there will be no more
        elif kind == "observed":
            receive = self._streams.get((node, message.call))
            if receive is not None:
                receive(message)
        else:
            self._serve(node, message, kind, partial(self._send_answer, node))

    # -- events of the direct way

    def asked(self, node: NodeId, message: bytes, answer: Callable[[bytes], None]) -> None:
        """A question that came that way, and by which its answer goes back."""
        try:
            question = pb.ControlFrame.FromString(message)
        except ProtobufError:
            logger.warning("a control frame is unreadable and was dropped", peer=node, bytes=len(message))
            return
        kind = question.WhichOneof("body") or ""
        if kind in self._hearers:
            self._hearers[kind](node, question)
        elif kind in self._takers:
            self._serve(node, question, kind, partial(_send_bytes, answer))
        else:
            refusal = _refusal(ErrorCode.UNSUPPORTED_VERSION, "this is asked over the mesh")
            refusal.call = question.call
            answer(refusal.SerializeToString())

    def answered(self, node: NodeId, message: bytes) -> None:
        """An answer that came that way."""
        self.received(node, message)

    def lost(self, node: NodeId) -> None:
        """That way does not lead to the node any more."""
        self._fail_all(node, direct=True)
        for listener in self._listeners:
            listener.lost(node)

    # -- answering

    def _serve(self, node: NodeId, question: pb.ControlFrame, kind: str, answer: Answer) -> None:
        tasks = self._served.setdefault(node, set())
        if len(tasks) + self._taken.get(node, 0) >= MAX_SERVED:
            busy = _refusal(ErrorCode.THROTTLING_QUOTA_EXCEEDED, f"node {self.node_id} is busy; try again later")
            busy.call = question.call
            answer(busy)
            return
        taker = self._takers.get(kind)
        if taker is not None:
            self._take(taker, node, question, kind, answer)
            return
        task = asyncio.get_running_loop().create_task(self._serve_one(node, question, kind, answer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _take(self, taker: Taker, node: NodeId, question: pb.ControlFrame, kind: str, answer: Answer) -> None:
        taken = _Taken(node, question.call, answer, self._taken)
        try:
            taker(node, question, taken.answered)
        except ApiError as error:
            taken.answered(_refusal(error.code, str(error)))
        except Exception as error:  # a defect, as in `_answer`
            logger.exception("a question of another node could not be answered", peer=node, kind=kind)
            taken.answered(_refusal(ErrorCode.UNKNOWN_SERVER_ERROR, f"node {self.node_id}: {error!r}"))

    async def _serve_one(self, node: NodeId, question: pb.ControlFrame, kind: str, answer: Answer) -> None:
        streams = self._stream_servers.get(kind)
        if streams is not None:
            await streams(node, question)
            return
        frame = await self._answer(node, question)
        frame.call = question.call
        answer(frame)

    def _send_answer(self, node: NodeId, answer: pb.ControlFrame) -> None:
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


def _send_bytes(send: Callable[[bytes], None], frame: pb.ControlFrame) -> None:
    send(frame.SerializeToString())


def _forget(
    streams: dict[tuple[NodeId, int], Callable[[pb.ControlFrame | None], None]], key: tuple[NodeId, int]
) -> None:
    streams.pop(key, None)
