"""What the quorum's transport costs: `python -m bench.micro.raft_transport`.

Three processes, as in a quorum of three: this one leads, two others answer whatever they get. Latency is taken one
message at a time; the clock is the machine's monotonic one, which all processes share. One way is from `send` to the
peer's `receive`. Processor time at a side is all of that process, gRPC's threads included.

On two virtual cores, busy with other things, it came to: one way 0.29 to 0.36 ms at the median, there and back 0.55 to
0.66 ms (an echo with nothing but grpc.aio: 0.43 to 0.52 ms); 33,000 to 39,000 heartbeats a second, each answered, with
256 in flight; 80 µs to encode an append of 64 entries and 100 to 120 µs to decode it; 8 ms from kill -9 to
`unreachable`, and 56 ms (97 at most) until a peer that listens again is linked. A leader at rest takes 1.2 % of a core
for two followers, as much as that bare echo; plain TCP would take 0.25 %.
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from functools import partial

import uvloop

from ottla.core.types import NodeId, Uuid
from ottla.raft import wire
from ottla.raft.acceptor import QuorumServer
from ottla.raft.core.entries import Entry, EntryKind
from ottla.raft.core.member import Member
from ottla.raft.core.messages import AppendRequest, Heartbeat, HeartbeatResponse, Message, TimeoutNow
from ottla.raft.grpc_transport import GrpcTransport
from ottla.raft.links import Peer

CLUSTER = Uuid(b"raft_transport  ")
SECRET = b"raft_transport"
LEADER, FOLLOWER, OTHER = MEMBERS = [Member(NodeId(n), Uuid(bytes([n]) * 16)) for n in (1, 2, 3)]


class Follower:
    """Answers a heartbeat with the time that it took to come, appends with 0, and TimeoutNow with processor time."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.transport = GrpcTransport(cluster_id=CLUSTER, member=member, secret=SECRET)

    def receive(self, message: Message) -> None:
        answer = 0
        if isinstance(message, Heartbeat):
            answer = time.monotonic_ns() - message.commit
        elif isinstance(message, TimeoutNow):
            answer = time.process_time_ns()
        self.transport.send(HeartbeatResponse(source=self._member, target=message.source, term=1, round=answer))

    def unreachable(self, node: NodeId) -> None:
        """The leader starts later, and ends."""

    def connected(self, node: NodeId) -> None:
        """Nothing waits for it."""

    async def run(self, port: int) -> None:
        server = QuorumServer(self.transport)
        self.transport.start(self)
        await server.start("127.0.0.1", port)
        print("listening", time.monotonic_ns(), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the leader ends
        await self.transport.close()
        await server.stop()


class Process:
    """A follower in a process of its own, always on the same port."""

    def __init__(self, member: Member) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._command = [
            sys.executable, "-m", "bench.micro.raft_transport", "--follow", str(member.node), "--port", str(self.port)
        ]  # fmt: skip
        self.start()

    def start(self) -> int:
        """When it listened."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("listening"):
                return int(line.split()[1])
        raise RuntimeError("a follower did not start")

    def kill(self) -> int:
        self._process.send_signal(signal.SIGKILL)
        return time.monotonic_ns()

    def end(self) -> None:
        self._process.communicate("")


class Leader:
    """The side that measures."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._transport = GrpcTransport(cluster_id=CLUSTER, member=LEADER, secret=SECRET)
        self._on_answer: Callable[[int], None] = lambda answer: None
        self._lost_ns = 0

    def receive(self, message: Message) -> None:
        assert isinstance(message, HeartbeatResponse)
        self._on_answer(message.round)

    def unreachable(self, node: NodeId) -> None:
        self._lost_ns = self._lost_ns or time.monotonic_ns()

    def connected(self, node: NodeId) -> None:
        """Nothing waits for it."""

    async def run(self) -> None:
        processes = [Process(FOLLOWER), Process(OTHER)]
        self._transport.start(self)
        self._transport.reach(
            {member.node: f"127.0.0.1:{process.port}" for member, process in zip(MEMBERS[1:], processes, strict=True)}
        )
        try:
            await self._linked(FOLLOWER)
            await self._linked(OTHER)
            await self._latency("heartbeat", beat)
            await self._latency("append of 64 x 100 bytes", partial(append, 64, 100))
            await self._throughput("heartbeats", beat(), 256)
            await self._throughput("appends of 1 x 100 bytes", append(1, 100), 256)
            await self._throughput("appends of 64 x 100 bytes", append(64, 100), 256)
            await self._throughput("appends of 1 x 256 KiB", append(1, 256 << 10), 32)
            await self._rest("nothing but signs of life", 0)
            await self._rest("heartbeats each 100 ms", 0.1)
            await self._death(processes[0])
        finally:
            await self._transport.close()
            for process in processes:
                process.end()

    async def _linked(self, member: Member) -> int:
        while self._peer(member).link is None:  # noqa: ASYNC110  # the moment counts
            await asyncio.sleep(0)
        return time.monotonic_ns()

    def _peer(self, member: Member) -> Peer:
        return self._transport.peer(member.node)

    async def _ask(self, message: Message) -> int:
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._on_answer = answered.set_result
        self._transport.send(message)
        async with asyncio.timeout(10):
            return await answered

    async def _cpu_ns(self) -> int:
        """Of the follower."""
        return await self._ask(TimeoutNow(source=LEADER, target=FOLLOWER, term=1))

    async def _latency(self, name: str, make: Callable[[], Message]) -> None:
        one_way, round_trip = [], []
        for _ in until(self._seconds):
            message = make()
            started = time.monotonic_ns()
            one_way.append(await self._ask(message))
            round_trip.append(time.monotonic_ns() - started)
            await asyncio.sleep(0.001)
        if any(one_way):
            say(f"{name}, one way", percentiles(one_way))
        say(f"{name}, round trip", percentiles(round_trip))

    async def _throughput(self, name: str, message: Message, in_flight: int) -> None:
        theirs, ours = await self._cpu_ns(), time.process_time_ns()
        started = time.monotonic()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answered = 0

        def on_answer(_: int) -> None:
            nonlocal answered
            answered += 1
            if time.monotonic() < started + self._seconds:
                self._transport.send(message)
            elif answered == sent_beyond() and not done.done():
                done.set_result(None)

        late = 0

        def sent_beyond() -> int:
            nonlocal late
            late = late or answered + in_flight - 1  # what was in flight when the time was over
            return late

        self._on_answer = on_answer
        for _ in range(in_flight):
            self._transport.send(message)
        await done
        took = time.monotonic() - started
        ours = time.process_time_ns() - ours
        theirs = await self._cpu_ns() - theirs
        say(
            f"{name}, {in_flight} in flight",
            f"{answered / took:8,.0f}/s and as many answers; µs CPU for each of both:"
            f" {ours / answered / 1e3:5.1f} here, {theirs / answered / 1e3:5.1f} there",
        )

    async def _rest(self, name: str, pace_s: float) -> None:
        theirs, ours, started = await self._cpu_ns(), time.process_time_ns(), time.monotonic()
        self._on_answer = lambda answer: None
        for _ in until(max(8, self._seconds)):
            if pace_s:
                self._transport.send(beat(FOLLOWER))
                self._transport.send(beat(OTHER))
            await asyncio.sleep(pace_s or 8)
        ours, took = time.process_time_ns() - ours, time.monotonic() - started
        theirs = await self._cpu_ns() - theirs
        say(
            f"{name}, at rest", f"{ours / took / 1e7:5.2f} % of a core here, {theirs / took / 1e7:5.2f} % in a follower"
        )

    async def _death(self, process: Process) -> None:
        noticed, reached = [], []
        for _ in range(10):
            self._lost_ns = 0
            killed = process.kill()
            while not self._lost_ns:  # noqa: ASYNC110
                await asyncio.sleep(0)
            noticed.append(self._lost_ns - killed)
            process.end()
            restarted = asyncio.get_running_loop().run_in_executor(None, process.start)
            linked = await self._linked(FOLLOWER)
            reached.append(linked - await restarted)
        say("kill -9 to unreachable", percentiles(noticed))
        say("a restarted peer listens until linked", percentiles(reached))


def beat(target: Member = FOLLOWER) -> Heartbeat:
    return Heartbeat(source=LEADER, target=target, term=1, round=1000, commit=time.monotonic_ns())


def append(count: int, size: int) -> AppendRequest:
    entries = tuple(Entry(n, 7, EntryKind.DATA, os.urandom(size), 3000, n, n) for n in range(1, count + 1))
    return AppendRequest(
        source=LEADER, target=FOLLOWER, term=7, number=1, previous_index=0, previous_term=7, commit=0, entries=entries
    )


def until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def percentiles(values_ns: list[int]) -> str:
    values_ns.sort()
    p50, p99 = (values_ns[len(values_ns) * n // 100] / 1e3 for n in (50, 99))
    return f"p50 {p50:9,.0f} µs, p99 {p99:9,.0f} µs of {len(values_ns)}"


def say(name: str, figures: str) -> None:
    print(f"{name:44} {figures}", flush=True)


def codec() -> None:
    for name, message in (("append of 64 x 100 bytes", append(64, 100)), ("heartbeat", beat())):
        data = wire.encode(message)
        encoding = min(timeit.repeat(partial(wire.encode, message), number=500, repeat=9)) / 500 * 1e6
        decoding = min(timeit.repeat(partial(wire.decode, data), number=500, repeat=9)) / 500 * 1e6
        say(f"{name}, codec", f"{encoding:5.1f} µs to encode, {decoding:5.1f} µs to decode, {len(data)} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro.raft_transport", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="for each of the cases")
    parser.add_argument("--follow", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        uvloop.run(Follower(MEMBERS[options.follow - 1]).run(options.port))
        return
    codec()
    uvloop.run(Leader(options.seconds).run())


if __name__ == "__main__":
    main()
