"""Consumers that do nothing but commit, as raw connections: an offset of one partition each time.

Each has a group of its own and a fixed number of commits in flight, sent to the group's coordinator; every answer is
looked at for its error.
"""

import selectors
import socket
import struct
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

from bench.cluster import Cluster
from ottla.protocol.apis import RequestHeader, encode_request_header
from ottla.protocol.message import Message
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.protocol.messages.find_coordinator_response import FindCoordinatorResponse
from ottla.protocol.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)

COMMIT_VERSION = 8
FIND_VERSION = 4
READY_S = 60.0


class Connection:
    """To the coordinator of `group`, which `find_coordinator` names."""

    def __init__(self, address: tuple[str, int], group: str, topic: str, *, timeout_s: float | None = None) -> None:
        self.socket = socket.create_connection(address, timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=1_000_000)
        request = OffsetCommitRequest(
            group_id=group, topics=[OffsetCommitRequestTopic(name=topic, partitions=[partition])]
        )
        self._frame = frame(request, COMMIT_VERSION)
        self.sent_at: list[float] = []
        self.waited_s: list[float] = []
        self.errors: dict[int, int] = {}

    def close(self) -> None:
        self.socket.close()

    def send(self, count: int) -> None:
        now = time.perf_counter()
        self.sent_at += [now] * count
        self.socket.sendall(self._frame * count)

    def receive(self, *, blocking: bool = False) -> int:
        """How many commits were answered."""
        answers = self._answers(blocking=blocking)
        now = time.perf_counter()
        for answer in answers:
            self.waited_s.append(now - self.sent_at.pop(0))
            (error,) = struct.unpack_from(">h", answer, len(answer) - 5)
            if error:
                self.errors[error] = self.errors.get(error, 0) + 1
        return len(answers)

    def _answers(self, *, blocking: bool) -> list[bytes]:
        found: list[bytes] = []
        while not found:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise ConnectionError("the node closed the connection")
            self._received += piece
            position = 0
            while len(self._received) - position >= 4:
                (size,) = struct.unpack_from(">i", self._received, position)
                if len(self._received) - position - 4 < size:
                    break
                found.append(bytes(self._received[position + 4 : position + 4 + size]))
                position += 4 + size
            del self._received[:position]
            if not blocking:
                break
        return found


def frame(message: Message, version: int) -> bytes:
    body = encode_request_header(RequestHeader(message.API_KEY, version, 1, "bench")) + message.encode(version)
    return struct.pack(">i", len(body)) + body


def find_coordinator(bootstrap: str, group: str, *, timeout_s: float = 5.0) -> tuple[int, tuple[str, int]] | None:
    """Its node and address, of whichever of these servers says so first; None: nobody knows one now."""
    for server in bootstrap.split(","):
        host, _, port = server.rpartition(":")
        try:
            with closing(socket.create_connection((host, int(port)), timeout_s)) as asked:
                asked.sendall(frame(FindCoordinatorRequest(coordinator_keys=[group]), FIND_VERSION))
                (size,) = struct.unpack(">i", _exactly(asked, 4))
                found, _ = FindCoordinatorResponse.decode(_exactly(asked, size), FIND_VERSION, 5)
        except OSError:
            continue
        (one,) = found.coordinators
        if one.error_code == 0:
            return one.node_id, (one.host, one.port)
    return None


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise ConnectionError("the node closed the connection")
        received += piece
    return received


def connect(bootstrap: str, group: str, topic: str) -> Connection:
    """To the coordinator of `group`, once that takes a commit."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        found = find_coordinator(bootstrap, group)
        if found is not None:
            connection = Connection(found[1], group, topic)
            connection.send(1)
            connection.receive(blocking=True)
            if not connection.errors:
                return connection
            connection.close()
        time.sleep(0.2)
    raise TimeoutError(f"no coordinator for {group}")


def keep_committing(connections: list[Connection], in_flight: int, seconds: float) -> int:
    """Keep that many commits of each connection in flight for that time; how many were answered."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(in_flight)
    answered, end = 0, time.monotonic() + seconds
    outstanding = in_flight * len(connections)
    while outstanding:
        running = time.monotonic() < end
        for key, _ in selector.select(1):
            count = key.data.receive()
            answered += count
            if running and count:
                key.data.send(count)
            else:
                outstanding -= count
    return answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """`cpu_s`: of the nodes; `waited_s`: each commit's time, sorted."""

    count: int
    took_s: float
    cpu_s: float
    waited_s: list[float]


def measure_commits(cluster: Cluster, connection_count: int, in_flight: int, seconds: float) -> Committed:
    """After half as many seconds of the same, which warm up. Raises RuntimeError when a commit is refused."""
    topic = cluster.new_topic(1)
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(connect(cluster.bootstrap, f"{topic}-{n}", topic)))
            for n in range(connection_count)
        ]
        keep_committing(connections, in_flight, seconds / 2)
        for connection in connections:
            connection.waited_s.clear()
        cpu_s, start = cluster.cpu_s(), time.monotonic()
        count = keep_committing(connections, in_flight, seconds)
        took_s, cpu_s = time.monotonic() - start, cluster.cpu_s() - cpu_s
        if errors := [connection.errors for connection in connections if connection.errors]:
            raise RuntimeError(f"commits were refused: {errors}")
        waited_s = sorted(waited_s for connection in connections for waited_s in connection.waited_s)
    return Committed(count=count, took_s=took_s, cpu_s=cpu_s, waited_s=waited_s)
