"""Where clients come in: reads their requests, asks the quorum, answers. What it says is defined in `protocol`."""

import asyncio
from hashlib import sha256

from examples.kv.commands import Answer, encode
from examples.kv.protocol import (
    MAX_LINE_BYTES,
    Describe,
    Error,
    Get,
    InvalidRequest,
    Open,
    Reply,
    Request,
    State,
    Write,
    decode_request,
    encode_reply,
)
from examples.kv.store import KeyValueStore, read
from ottla.core.errors import OttlaError
from ottla.raft.quorum import NotLeader, Overloaded, ProposalLost, Quorum, RequestId, SessionExpired


class Door:
    """The client side of one node."""

    def __init__(self, node: int, quorum: Quorum, store: KeyValueStore) -> None:
        self._node, self._quorum, self._store = node, quorum, store
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> None:
        """Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_LINE_BYTES)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._answer_all(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # nobody is there any more, or this node stops
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # where the next one begins is not known any more
                writer.write(encode_reply(self._error(Error.INVALID, f"a line has at most {MAX_LINE_BYTES} bytes")))
                return
            if not line.endswith(b"\n"):
                return
            writer.write(encode_reply(await self.answer(line)))
            await writer.drain()

    async def answer(self, line: bytes) -> Reply:
        """Whatever happens has an answer: a connection ends only when the client or the node does."""
        try:
            return await self._carry_out(decode_request(line))
        except InvalidRequest as error:
            return self._error(Error.INVALID, str(error))
        except ProposalLost as error:
            return self._error(Error.LOST, str(error), error.leader)
        except NotLeader as error:
            return self._error(Error.NOT_LEADER, str(error), error.leader)
        except Overloaded as error:
            return self._error(Error.OVERLOADED, str(error))
        except SessionExpired as error:
            return self._error(Error.EXPIRED, str(error))
        except OttlaError as error:
            return self._error(Error.FAILED, str(error))

    async def _carry_out(self, request: Request) -> Reply:
        match request:
            case Open():
                return Reply(node=self._node, client=await self._quorum.open_session())
            case Get(key):
                return Reply(node=self._node, value=await read(self._quorum, self._store, key))
            case Describe():
                return Reply(node=self._node, state=self._state())
            case Write(command, client, sequence):
                # One at a time: who sends this one has the results of all before it.
                name = RequestId(client, sequence, resolved_below=sequence)
                committed = await self._quorum.propose(encode(command), name)
                answer = Answer.decode(committed.result)
                return Reply(node=self._node, status=answer.status, length=answer.length)

    def _state(self) -> State:
        quorum = self._quorum
        digest = sha256(self._store.snapshot()()).hexdigest()
        return State(leader=quorum.leader, term=quorum.term, applied=quorum.commit_index, digest=digest)

    def _error(self, error: Error, detail: str, leader: int | None = None) -> Reply:
        return Reply(node=self._node, error=error, leader=leader, detail=detail)
