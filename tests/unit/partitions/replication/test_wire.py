"""Frames and greeting: what is said is understood, and nothing else gets in."""

import random
import struct
from contextlib import suppress

import pytest

from ottla.core.errors import DecodeError, OttlaError
from ottla.core.types import NodeId, Uuid
from ottla.partitions.replication import wire
from ottla.partitions.replication.frames import FrameReader
from ottla.partitions.replication.handshake import Dialler, Doorkeeper, Identity, Refused
from ottla.partitions.replication.wire import Kind, Progress, Subscription

CLUSTER = Uuid(b"c" * 16)


def identity(node: int, *, secret: bytes = b"secret", cluster: Uuid = CLUSTER) -> Identity:
    made = Identity(cluster_id=cluster, node=NodeId(node), incarnation=Uuid(b"i" * 16), secret=secret)
    made.broker_epoch = node * 10
    return made


def body(frame: bytes) -> memoryview:
    assert struct.unpack_from(">I", frame)[0] == len(frame) - 4
    return memoryview(frame)[wire.PREFIX_BYTES :]


# -- greeting


def greet(follower: Identity, leader: Identity, expected: int = 1) -> NodeId:
    dialler, doorkeeper = Dialler(follower, NodeId(expected), random.Random(1)), Doorkeeper(leader, random.Random(2))
    challenge = doorkeeper.greeted(body(dialler.hello()))
    return doorkeeper.proved(body(dialler.challenged(body(challenge)))).node


def test_nodes_of_a_cluster_find_each_other() -> None:
    assert greet(identity(2), identity(1)) == 2


@pytest.mark.parametrize(
    ("follower", "leader", "expected", "reason"),
    [
        (identity(2, secret=b"other"), identity(1), 1, "does not know this cluster's secret"),
        (identity(2, cluster=Uuid(b"d" * 16)), identity(1), 1, "another cluster"),
        (identity(2), identity(3), 1, "it looks for node 1"),
        (identity(1), identity(1), 1, "this very node"),
    ],
)
def test_strangers_are_turned_away(follower: Identity, leader: Identity, expected: int, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        greet(follower, leader, expected)


def test_a_leader_that_does_not_know_the_secret_learns_nothing() -> None:
    dialler = Dialler(identity(2), NodeId(1), random.Random(1))
    impostor = Doorkeeper(identity(1, secret=b"guess"), random.Random(2))
    with pytest.raises(Refused, match="leader does not know"):
        dialler.challenged(body(impostor.greeted(body(dialler.hello()))))


def test_a_proof_is_good_for_one_greeting_only() -> None:
    dialler = Dialler(identity(2), NodeId(1), random.Random(1))
    first, second = Doorkeeper(identity(1), random.Random(2)), Doorkeeper(identity(1), random.Random(3))
    hello = dialler.hello()
    proof = dialler.challenged(body(first.greeted(body(hello))))
    second.greeted(body(hello))
    with pytest.raises(Refused):
        second.proved(body(proof))


def test_the_leaders_own_proof_is_none_of_a_follower() -> None:
    dialler, doorkeeper = Dialler(identity(2), NodeId(1), random.Random(1)), Doorkeeper(identity(1), random.Random(2))
    challenge = body(doorkeeper.greeted(body(dialler.hello())))
    with pytest.raises(Refused):
        doorkeeper.proved(challenge[-wire.PROOF_BYTES :])


def test_a_node_without_a_secret_does_not_start() -> None:
    with pytest.raises(ValueError, match="secret"):
        identity(1, secret=b"")


# -- frames


def test_what_is_encoded_is_decoded() -> None:
    subscription = Subscription(7, Uuid(b"t" * 16), 3, 5, 100, 90, 4, 10)
    assert wire.decode_subscribe(body(wire.subscribe(subscription))) == subscription
    assert wire.decode_slot(body(wire.unsubscribe(9))) == 9
    assert list(wire.decode_durable(body(wire.durable([(1, 2, 3, 0), (4, 5, 6, 1)])[0]))) == [
        Progress(1, 2, 3, 0),
        Progress(4, 5, 6, 1),
    ]
    assert wire.decode_accepted(body(wire.accepted(1, 50, 3))) == (1, 50, 3)
    assert wire.decode_diverged(body(wire.diverged(1, -1, 3))) == (1, -1, 3)
    assert wire.decode_anew(body(wire.anew(1, 5))) == (1, 5)
    assert wire.decode_refused(body(wire.refused(1, -1))) == (1, -1)
    assert list(wire.decode_offsets(body(wire.offsets([(1, 2, 3)])[0]))) == [(1, 2, 3)]
    data = wire.data_prefix(1, 50, 3, 5) + b"batch"
    assert wire.decode_data(body(data)) == (1, 50, 3)
    assert bytes(body(data)[wire.DATA_FIELDS_BYTES :]) == b"batch"


def test_many_entries_take_as_few_frames_as_hold_them() -> None:
    frames = wire.offsets((n, n, 0) for n in range(wire.MAX_ENTRIES + 1))
    assert [len(list(wire.decode_offsets(body(frame)))) for frame in frames] == [wire.MAX_ENTRIES, 1]


_DECODERS = [
    wire.decode_hello, wire.decode_challenge, wire.decode_subscribe, wire.decode_slot, wire.decode_durable,
    wire.decode_accepted, wire.decode_diverged, wire.decode_anew, wire.decode_refused, wire.decode_offsets,
    wire.decode_data,
]  # fmt: skip


def test_garbage_raises_decode_error_and_nothing_else() -> None:
    source = random.Random(5)
    for _ in range(2000):
        garbage = memoryview(source.randbytes(source.choice([0, 1, 4, 20, 28, 44, 76, 86])))
        for decode in _DECODERS:
            with suppress(DecodeError):
                decode(garbage)


class Collector:
    def __init__(self, shared_bytes: int = 64, limit: int = 1 << 20) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.owned: list[bool] = []
        self.reader = FrameReader(memoryview(bytearray(shared_bytes)), self._take, limit)

    def _take(self, kind: int, content: memoryview, owned: bool) -> None:
        self.frames.append((kind, bytes(content)))
        self.owned.append(owned)

    def feed(self, data: bytes, piece: int) -> None:
        while data:
            buffer = self.reader.buffer()
            count = min(len(buffer), piece, len(data))
            buffer[:count] = data[:count]
            data = data[count:]
            self.reader.received(count)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7, 63, 64, 1000])
def test_frames_are_cut_wherever_the_pieces_end(piece: int) -> None:
    wanted = [(5, b""), (13, b"x" * 300), (14, b"ab"), (13, b"y" * 59), (8, b"z" * 60), (5, b"")]
    collector = Collector()
    collector.feed(b"".join(wire.frame(Kind(kind), content) for kind, content in wanted), piece)
    assert collector.frames == wanted
    assert collector.owned[1], "a frame that does not fit into the shared buffer is not copied again"


@pytest.mark.parametrize("length", [0, 65, 1 << 31, (1 << 32) - 1])
def test_a_length_beyond_the_limit_is_refused_before_anything_is_allocated(length: int) -> None:
    collector = Collector(limit=64)
    with pytest.raises(DecodeError, match="a frame of"):
        collector.feed(struct.pack(">I", length), 4)


def test_memory_grows_with_what_arrives_and_not_with_what_is_said() -> None:
    collector = Collector(limit=wire.MAX_FRAME_BYTES)
    collector.feed(struct.pack(">IB", 200 << 20, Kind.DATA), 5)
    assert len(collector.reader.buffer()) < 4 << 20


def test_offsets_that_cannot_be_are_refused() -> None:
    with pytest.raises(OttlaError):
        wire.decode_subscribe(body(wire.subscribe(Subscription(7, Uuid(b"t" * 16), 3, 5, 100, 101, 4, 10))))
