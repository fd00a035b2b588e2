"""A hundred thousand mutated frames on live sockets, while a well-behaved client goes on as if nothing were.

The frames are requests of every type and version that the node advertises, made from the definitions and then damaged:
bits, lengths, counts, cuts, insertions, repetitions, noise. A frame counts when the door has judged it: by an answer,
or by closing the connection, which must leave one line in the log.
"""

import asyncio
import json
import os
import struct
import threading
import time
from collections.abc import Iterator
from random import Random
from typing import cast

import psutil
import pytest
import uvloop
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.protocol.apis import ApiKey, RequestHeader, encode_request_header, response_class
from ottla.protocol.messages.api_versions_request import ApiVersionsRequest
from ottla.protocol.messages.api_versions_response import ApiVersionsResponse
from ottla.records.batch import Record, encode_batch
from ottla.testing.cluster import Cluster
from tests.unit.protocol.protocol_samples import MESSAGES, Sampler

FRAMES = int(os.environ.get("OTTLA_FUZZ_FRAMES", "100000"))
SEED = int(os.environ.get("OTTLA_FUZZ_SEED", "1"))
CONNECTIONS = 100
FRAMES_PER_CONNECTION = 24
OWN_TOPIC = "citizens-own"
PATIENCE_S = 0.15  # some requests may wait for long, such as a JoinGroup: then the client goes away
MAX_GROWTH_BYTES = 200 << 20
_RARE = {ApiKey.CREATE_TOPICS, ApiKey.CREATE_PARTITIONS}  # what they leave behind is no leak, but it is kept
_PROMPT = {"max_wait_ms": 3, "timeout_ms": 50, "acks": -1}  # so that answers come, and soon
_INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


class Corpus:
    """Frames without their length, well-formed at first."""

    def __init__(self, versions: dict[int, tuple[int, int]], random: Random) -> None:
        self._random = random
        by_key = {
            message.api_key: message
            for message in MESSAGES
            if message.kind == "request" and message.api_key in versions
        }
        self._bodies = []
        sampler = Sampler(random, small=True)
        for key, (first, last) in versions.items():
            for version in range(max(first, by_key[key].top.versions.first), last + 1):
                for _ in range(1 if key in _RARE else 6):
                    header = RequestHeader(key, version, random.randrange(1 << 31), "fuzz")
                    message = sampler.message(by_key[key], version)
                    for name, value in _PROMPT.items():
                        if hasattr(message, name):
                            setattr(message, name, value)
                    self._bodies.append(encode_request_header(header) + message.encode(version))
        batch = encode_batch([Record(offset=0, timestamp=0, key=b"k", value=b"v" * 40, headers=())])
        self._fragments = [batch, b"\xff" * 5, bytes(8), *self._bodies[:50]]

    def frame(self) -> bytes:
        """The next mutated frame, with its length."""
        random = self._random
        body = bytearray(random.choice(self._bodies))
        for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
            random.choice(_MUTATIONS)(self, body)
        size = len(body)
        if random.random() < 0.02:
            size = random.choice((size - 1, size + 1, 0, -1, 1 << 30, random.randrange(-(1 << 31), 1 << 31)))
        return struct.pack(">i", size) + body

    def _place(self, body: bytearray) -> int:
        """Mostly behind the header, so that most damage reaches a handler."""
        first = 14 if len(body) > 14 and self._random.random() < 0.9 else 0
        return self._random.randrange(first, len(body) + 1)

    def _flip(self, body: bytearray) -> None:
        at = self._place(body)
        if at < len(body):
            body[at] ^= 1 << self._random.randrange(8)

    def _number(self, body: bytearray) -> None:
        width = self._random.choice((1, 2, 4))
        at = self._place(body)
        body[at : at + width] = (self._random.choice(_INTERESTING) & ((1 << 8 * width) - 1)).to_bytes(width, "big")

    def _cut(self, body: bytearray) -> None:
        del body[self._place(body) :]

    def _remove(self, body: bytearray) -> None:
        at = self._place(body)
        del body[at : at + self._random.choice((1, 2, 4, 16))]

    def _insert(self, body: bytearray) -> None:
        at = self._place(body)
        body[at:at] = self._random.choice(self._fragments)

    def _repeat(self, body: bytearray) -> None:
        body += bytes(body)

    def _noise(self, body: bytearray) -> None:
        at = self._place(body)
        body[at:] = self._random.randbytes(self._random.choice((1, 10, 100)))


_MUTATIONS = (
    Corpus._flip,
    Corpus._flip,
    Corpus._number,
    Corpus._number,
    Corpus._cut,
    Corpus._remove,
    Corpus._insert,
    Corpus._repeat,
    Corpus._noise,
)


class Victim(asyncio.Protocol):
    """One connection: counts answers, and whether the door closed it."""

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames
        self._received = bytearray()
        self._loop = asyncio.get_running_loop()
        self.answers = 0
        self.closed_by_door = False
        self.ended = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.writelines(self._frames)
        self._timer = self._loop.call_later(PATIENCE_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while len(received) >= 4:
            (size,) = struct.unpack_from(">i", received)
            assert size >= 4, "an answer too short to have a correlation id"
            if len(received) < size + 4:
                break
            del received[: size + 4]
            self.answers += 1
        if self.answers >= len(self._frames):
            self._transport.abort()

    def eof_received(self) -> None:
        self.closed_by_door = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        if isinstance(exc, ConnectionResetError):  # closed with our bytes still unread
            self.closed_by_door = True
        self.ended.set_result(None)


async def attack(host: str, port: int, corpus: Corpus) -> tuple[int, int]:
    """Until enough frames are judged: how many were, and how many connections the door closed."""
    loop = asyncio.get_running_loop()
    judged = closed = 0

    async def one() -> None:
        nonlocal judged, closed
        while judged < FRAMES:
            victim = Victim([corpus.frame() for _ in range(FRAMES_PER_CONNECTION)])
            await loop.create_connection(lambda victim=victim: victim, host, port)  # type: ignore[misc]
            await victim.ended
            judged += victim.answers + victim.closed_by_door
            closed += victim.closed_by_door

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return judged, closed


class Citizen(threading.Thread):
    """Produces and consumes the whole time; notes what went wrong and the longest it had to wait."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self._servers = bootstrap
        self._stopping = threading.Event()
        self.errors: list[str] = []
        self.produced = self.consumed = 0
        self.longest_s = 0.0

    def run(self) -> None:
        # Idempotent: some frame unregisters the broker, and who leads anew may hold what a producer sends once more.
        producer = Producer({"bootstrap.servers": self._servers, "linger.ms": 0, "enable.idempotence": True})
        consumer = Consumer({"bootstrap.servers": self._servers, "group.id": "citizen"})
        consumer.assign([TopicPartition(OWN_TOPIC, 0, 0)])

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error:
                self.errors.append(str(error))

        while not self._stopping.is_set():
            started = time.monotonic()
            producer.produce(OWN_TOPIC, str(self.produced).encode(), on_delivery=delivered)
            producer.flush(30)
            self.produced += 1
            message = consumer.poll(30)
            if message is None or message.error() or message.value() != str(self.consumed).encode():
                self.errors.append(f"consumed {message and (message.error() or message.value())!r}")
                break
            self.consumed += 1
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            self._stopping.wait(0.02)
        consumer.close()

    def finish(self) -> None:
        self._stopping.set()
        self.join(60)


async def advertised(host: str, port: int) -> dict[int, tuple[int, int]]:
    reader, writer = await asyncio.open_connection(host, port)
    body = encode_request_header(RequestHeader(ApiKey.API_VERSIONS, 4, 1, None)) + ApiVersionsRequest().encode(4)
    writer.write(struct.pack(">i", len(body)) + body)
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    answer, _ = response_class(ApiKey.API_VERSIONS).decode(await reader.readexactly(size), 4, 4)
    writer.close()
    await writer.wait_closed()
    assert isinstance(answer, ApiVersionsResponse)
    return {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}


def log_lines(cluster: Cluster) -> Iterator[dict[str, str]]:
    for line in cluster.log_path.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            yield json.loads(line)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_frames_harm_nobody_else() -> None:
    settings = {"auto.create.topics.enable": "false", "log_format": "json"}
    with Cluster(settings=settings) as cluster:
        host, _, port = cluster.bootstrap.rpartition(":")
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.create_topics([NewTopic(OWN_TOPIC, 1, 1)])[OWN_TOPIC].result(30)
        node = psutil.Process(cluster.node_pids[0])
        citizen = Citizen(cluster.bootstrap)
        citizen.start()
        before = node.memory_info().rss
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            versions = runner.run(advertised(host, int(port)))
            judged, closed = runner.run(attack(host, int(port), Corpus(versions, Random(SEED))))
        citizen.finish()
        grown = node.memory_info().rss - before
        assert judged >= FRAMES
        assert not citizen.errors
        assert citizen.consumed == citizen.produced > 10
        assert citizen.longest_s < 10
        assert node.is_running()
        assert grown < MAX_GROWTH_BYTES, f"{grown >> 20} MiB more than before"
        lines = list(log_lines(cluster))
        assert not [line for line in lines if line["level"] == "error"]
        connections = [line["connection"] for line in lines if line["event"] == "connection closed"]
        assert len(connections) == len(set(connections)), "a connection left more than one line"
        assert len(connections) >= closed
        print(  # noqa: T201
            f"\n{judged:,} frames judged, {closed:,} connections closed, {len(connections):,} lines, "
            f"{grown >> 20} MiB more; longest of {citizen.produced:,} rounds: {citizen.longest_s:.3f} s"
        )
