"""What a committed offset costs one node: `python -m bench.micro.commits [--peer ottla|kafka|both]`.

One partition a commit, as a consumer of one partition sends it. The clients are raw connections, each with a group of
its own and a fixed number of commits in flight; every answer is looked at for its error. Processor time is the node's.
Ottla syncs each commit before it answers; `--set` gives the node other settings.
"""

import argparse
import selectors
import socket
import struct
import time

from bench.micro.door import cpu_s
from bench.peers import Started, kafka, ottla
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
READY_S = 60.0


class Connection:
    """A consumer that does nothing but commit."""

    def __init__(self, address: tuple[str, int], group: str, topic: str) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=1_000_000)
        request = OffsetCommitRequest(
            group_id=group, topics=[OffsetCommitRequestTopic(name=topic, partitions=[partition])]
        )
        self._frame = frame(request, COMMIT_VERSION)
        self._group = group
        self.sent_at: list[float] = []
        self.waited_s: list[float] = []
        self.errors: dict[int, int] = {}

    def wait_for_coordinator(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self.socket.sendall(frame(FindCoordinatorRequest(coordinator_keys=[self._group]), 4))
            (answer,) = self._answers(blocking=True)
            found, _ = FindCoordinatorResponse.decode(answer, 4, 5)
            if found.coordinators[0].error_code == 0:
                self.send(1)
                while not self.receive(blocking=True):
                    pass
                if not self.errors:
                    return
                self.errors.clear()
            time.sleep(0.2)
        raise TimeoutError(f"no coordinator for {self._group}")

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


def run(connections: list[Connection], in_flight: int, seconds: float) -> int:
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


def measure(started: Started, connection_count: int, in_flight: int, seconds: float) -> str:
    cluster = started.cluster
    topic = cluster.new_topic(1)
    host, _, port = cluster.bootstrap.rpartition(":")
    connections = [Connection((host, int(port)), f"bench-{n}", topic) for n in range(connection_count)]
    for connection in connections:
        connection.wait_for_coordinator()
    run(connections, in_flight, seconds / 2)
    for connection in connections:
        connection.waited_s.clear()
    (pid,) = cluster.pids
    cpu, wall = cpu_s(pid), time.monotonic()
    count = run(connections, in_flight, seconds)
    cpu, wall = cpu_s(pid) - cpu, time.monotonic() - wall
    waited = sorted(waited_s for connection in connections for waited_s in connection.waited_s)
    errors = [connection.errors for connection in connections if connection.errors]
    assert not errors, errors
    return (
        f"{cluster.name:6} {connection_count:4} connections, {in_flight:3} in flight each: {count / wall:8,.0f}/s  "
        f"{cpu / count * 1e6:6.1f} µs CPU each  p50 {waited[len(waited) // 2] * 1000:6.2f} ms  "
        f"p99 {waited[len(waited) * 99 // 100] * 1000:6.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro.commits", description=__doc__)
    parser.add_argument("--peer", choices=("ottla", "kafka", "both"), default="ottla")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of Ottla's node")
    options = parser.parse_args()
    shapes = ((1, 100), (20, 5), (100, 1))
    peers = {"ottla": lambda: ottla(settings=tuple(options.set)), "kafka": kafka}
    for _ in range(options.rounds):
        for name in peers if options.peer == "both" else (options.peer,):
            with peers[name]() as started:
                for connection_count, in_flight in shapes:
                    print(measure(started, connection_count, in_flight, options.seconds), flush=True)


if __name__ == "__main__":
    main()
