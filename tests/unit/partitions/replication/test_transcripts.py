"""What two nodes say to each other, as text: a subscription, a batch, a failover with a divergence, a new log start."""

from random import Random
from struct import unpack_from
from textwrap import dedent

import pytest

from ottla.core.types import NodeId, Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager
from ottla.partitions.replication import wire
from ottla.partitions.replication.handshake import Identity
from ottla.partitions.replication.manager import ReplicaManager
from ottla.partitions.replication.types import Assignment, Peer
from ottla.partitions.replication.wire import Kind
from ottla.records.header import iterate_headers
from ottla.testing.sim.disk import SimDisk
from ottla.testing.sim.loop import World
from ottla.testing.sim.node_clock import NodeClock
from ottla.testing.sim.streams import SimChannel, SimStreams
from tests.sim.log_harness import make_batch

TOPIC_ID = Uuid(b"t" * 16)
NODES = (NodeId(1), NodeId(2))


class Pair:
    """Two replicas of one partition; `said()` is what went over the wire since the last time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(Random(1))
        self.streams = SimStreams(self.world, Random(1))
        self.streams.pieces = 0.0
        self.lines: list[str] = []
        self.nodes = [self._node(node) for node in NODES]
        self.partitions = [
            manager.create("t", TOPIC_ID, 0, LogConfig(min_insync_replicas=1), is_leader=False)
            for manager, _ in self.nodes
        ]
        self.version = 0
        send = SimChannel.send

        def tell(channel: SimChannel, buffers: list[bytes]) -> None:
            self._tell(f"{channel.host} ▶ {channel.other_host}", b"".join(buffers))
            send(channel, buffers)

        monkeypatch.setattr(SimChannel, "send", tell)

    def _node(self, node: NodeId) -> tuple[PartitionManager, ReplicaManager]:
        loop = self.world.new_loop(str(node))
        clock = NodeClock(loop)
        manager = PartitionManager(SimDisk(clock, Random(1), slowest_ms=0.1), clock, journal_bytes=0)
        manager.open()
        replicas = ReplicaManager(
            Identity(cluster_id=Uuid(b"c" * 16), node=node, incarnation=Uuid(b"i" * 16), secret=b"s"),
            manager,
            network=self.streams.network(str(node), loop),
            clock=clock,
            random=Random(int(node)),
            propose=lambda _: None,
        )
        replicas.listen(str(node), 1)
        replicas.registered(1)
        return manager, replicas

    def lead(self, leader: int, epoch: int, isr: tuple[NodeId, ...] = NODES, for_s: float = 0.1) -> None:
        self.version += 1
        peers = {node: Peer(node=node, broker_epoch=1, host=str(node), port=1) for node in NODES}
        assignment = Assignment(
            topic="t", topic_id=TOPIC_ID, index=0, leader=NodeId(leader), leader_epoch=epoch, replicas=NODES,
            isr=isr, partition_epoch=self.version,
        )  # fmt: skip
        for _, replicas in self.nodes:
            replicas.follow([assignment], peers)
        self.world.run_for(for_s)

    def append(self, node: int, values: list[bytes]) -> None:
        self.partitions[node - 1].append(memoryview(bytearray(make_batch(values))), acks=1, done=None)

    def said(self) -> str:
        self.world.run_for(0.1)
        lines, self.lines = self.lines, []
        return "\n".join(lines)

    def _tell(self, way: str, data: bytes) -> None:
        position = 0
        while position < len(data):
            (length,) = unpack_from(">I", data, position)
            kind, body = Kind(data[position + 4]), memoryview(data)[position + 5 : position + 4 + length]
            position += 4 + length
            if kind is not Kind.HEARTBEAT:
                self.lines.append(f"{way} {kind.name}{_describe(kind, body)}")


def _describe(kind: Kind, body: memoryview) -> str:
    if kind is Kind.SUBSCRIBE:
        s = wire.decode_subscribe(body)
        return f" {s.slot}: epoch {s.leader_epoch}, log end {s.log_end_offset} of epoch {s.last_epoch}"
    if kind is Kind.DATA:
        slot, mark, _ = wire.decode_data(body)
        headers = [h for _, h in iterate_headers(body[wire.DATA_FIELDS_BYTES :])]
        offsets = ", ".join(f"{h.base_offset}-{h.last_offset} of epoch {h.partition_leader_epoch}" for h in headers)
        return f" {slot}: {offsets}; committed to {mark}"
    if kind is Kind.DURABLE:
        return "".join(f" {p.slot}: to {p.durable_end_offset}" for p in wire.decode_durable(body))
    if kind is Kind.OFFSETS:
        return "".join(f" {slot}: committed to {mark}, from {start}" for slot, mark, start in wire.decode_offsets(body))
    if kind is Kind.ACCEPTED:
        a = wire.decode_accepted(body)
        return f" {a.slot}: committed to {a.high_watermark}"
    if kind is Kind.DIVERGED:
        return " {}: epoch {} ended at {}".format(*wire.decode_diverged(body))
    if kind is Kind.ANEW:
        return " {}: from {}".format(*wire.decode_anew(body))
    return f" {wire.decode_refused(body)[0]}" if kind is Kind.REFUSED else ""


def expect(said: str, wanted: str) -> None:
    assert said == dedent(wanted).strip()


def test_failover_with_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    pair.lead(1, epoch=1)
    expect(
        pair.said(),
        """
        2 ▶ 1 HELLO
        1 ▶ 2 CHALLENGE
        2 ▶ 1 PROOF
        1 ▶ 2 WELCOME
        2 ▶ 1 SUBSCRIBE 0: epoch 1, log end 0 of epoch -1
        1 ▶ 2 ACCEPTED 0: committed to 0
        """,
    )
    pair.append(1, [b"a", b"b"])
    pair.append(1, [b"c"])
    expect(
        pair.said(),
        """
        1 ▶ 2 DATA 0: 0-1 of epoch 1, 2-2 of epoch 1; committed to 0
        2 ▶ 1 DURABLE 0: to 3
        1 ▶ 2 OFFSETS 0: committed to 3, from 0
        """,
    )
    # The follower hears nothing any more, and what the leader appends stays its own. Then the follower leads.
    pair.streams.cut = {("1", "2"), ("2", "1")}
    pair.append(1, [b"d", b"e"])
    pair.world.run_for(0.1)
    pair.streams.reset("1", "2")
    pair.lead(2, epoch=2)
    pair.append(2, [b"f"])
    pair.world.run_for(0.1)
    pair.lines.clear()
    pair.streams.heal()
    pair.world.run_for(2.0)
    expect(
        pair.said(),
        """
        1 ▶ 2 HELLO
        2 ▶ 1 CHALLENGE
        1 ▶ 2 PROOF
        2 ▶ 1 WELCOME
        1 ▶ 2 SUBSCRIBE 0: epoch 2, log end 5 of epoch 1
        2 ▶ 1 DIVERGED 0: epoch 1 ended at 3
        1 ▶ 2 SUBSCRIBE 1: epoch 2, log end 3 of epoch 1
        2 ▶ 1 ACCEPTED 1: committed to 3
        2 ▶ 1 DATA 1: 3-3 of epoch 2; committed to 3
        1 ▶ 2 DURABLE 1: to 4
        2 ▶ 1 OFFSETS 1: committed to 4, from 0
        """,
    )


def test_a_follower_that_was_away_for_too_long_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(monkeypatch)
    pair.streams.cut = {("1", "2"), ("2", "1")}
    pair.lead(1, epoch=1, isr=NODES[:1])
    pair.append(1, [b"a", b"b"])
    pair.append(1, [b"c", b"d"])
    pair.append(1, [b"e"])
    pair.world.run_for(0.1)
    pair.partitions[0].delete_records(3, lambda _: None)  # in the middle of a batch
    pair.world.run_for(0.1)
    pair.lines.clear()
    pair.streams.reset("1", "2")
    pair.streams.heal()
    pair.world.run_for(2.0)
    expect(
        pair.said(),
        """
        2 ▶ 1 HELLO
        1 ▶ 2 CHALLENGE
        2 ▶ 1 PROOF
        1 ▶ 2 WELCOME
        2 ▶ 1 SUBSCRIBE 0: epoch 1, log end 0 of epoch -1
        1 ▶ 2 ANEW 0: from 2
        2 ▶ 1 SUBSCRIBE 1: epoch 1, log end 2 of epoch -1
        1 ▶ 2 ACCEPTED 1: committed to 5
        1 ▶ 2 DATA 1: 2-3 of epoch 1, 4-4 of epoch 1; committed to 5
        2 ▶ 1 DURABLE 1: to 5
        """,
    )
    assert [(p.log_start_offset, p.log_end_offset, p.high_watermark) for p in pair.partitions] == [(3, 5, 5)] * 2
