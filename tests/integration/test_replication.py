"""Replicas on real disks and sockets: what one appends the others have, byte for byte; strangers get nowhere."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ottla.adapters.clock import LoopClock
from ottla.adapters.disk import ThreadedDisk
from ottla.adapters.network import AsyncioNetwork
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import NodeId, Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.partitions.replication.handshake import Identity
from ottla.partitions.replication.manager import ReplicaManager
from ottla.partitions.replication.types import AlterPartition, Assignment, Peer
from ottla.records.batch import Record, encode_batch

TOPIC_ID = Uuid(b"t" * 16)
NODES = (NodeId(1), NodeId(2), NodeId(3))
WAIT_S = 20.0


class Replica:
    def __init__(self, node: NodeId, path: Path, *, secret: bytes = b"secret") -> None:
        loop = asyncio.get_running_loop()
        path.mkdir()
        self.path, self.node = path, node
        self.disk = ThreadedDisk(loop, str(path))
        self.logs = PartitionManager(self.disk, LoopClock(loop))
        self.logs.open()
        self.partition: Partition = self.logs.create(
            "t", TOPIC_ID, 0, LogConfig(min_insync_replicas=2, max_message_bytes=8 << 20), is_leader=False
        )
        self.proposals: list[AlterPartition] = []
        self.replicas = ReplicaManager(
            Identity(cluster_id=Uuid(b"c" * 16), node=node, incarnation=Uuid(b"i" * 16), secret=secret),
            self.logs,
            network=AsyncioNetwork(loop),
            clock=LoopClock(loop),
            random=random.SystemRandom(),
            propose=self.proposals.extend,
        )
        self.replicas.open()
        self.port = self.replicas.listen("127.0.0.1", 0)
        self.replicas.registered(int(node))

    async def close(self) -> None:
        self.replicas.close()
        closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.logs.close(closed.set_result)
        assert await closed is None
        self.disk.close()


class Trio:
    def __init__(self, tmp_path: Path) -> None:
        self.replicas = [Replica(node, tmp_path / str(node)) for node in NODES]
        self.epoch = 0

    def assign(self, leader: NodeId, *, epoch: int, isr: tuple[NodeId, ...] = NODES) -> None:
        self.epoch += 1
        peers = {
            one.node: Peer(node=one.node, broker_epoch=int(one.node), host="127.0.0.1", port=one.port)
            for one in self.replicas
        }
        assignment = Assignment(
            topic="t", topic_id=TOPIC_ID, index=0, leader=leader, leader_epoch=epoch, replicas=NODES, isr=isr,
            partition_epoch=self.epoch,
        )  # fmt: skip
        for one in self.replicas:
            one.replicas.follow([assignment], peers)


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    made = Trio(tmp_path)
    yield made
    for one in made.replicas:
        await one.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


def batch(size: int) -> memoryview:
    return memoryview(bytearray(encode_batch([Record(0, 1, None, random.randbytes(size), ())])))


async def produce(partition: Partition, size: int) -> ErrorCode:
    future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
    partition.append(batch(size), acks=-1, done=future.set_result)
    async with asyncio.timeout(WAIT_S):
        return await future


def stored(replica: Replica) -> bytes:
    return b"".join(file.read_bytes() for file in sorted((replica.path / "t-0").glob("*.log")))


async def test_replicas_hold_the_same_bytes(trio: Trio) -> None:
    trio.assign(NODES[0], epoch=1)
    first = trio.replicas[0].partition
    sizes = [10, 1000, 100_000, 3_000_000, 1] * 4  # some larger than a chunk, and than the receive buffer
    codes = await asyncio.gather(*(produce(first, size) for size in sizes))
    assert set(codes) == {ErrorCode.NONE}
    ends = [one.partition.log.durable_end_offset for one in trio.replicas]
    assert ends == [len(sizes)] * 3, "acknowledged is durable on every replica of the ISR"
    await until(lambda: all(one.partition.high_watermark == len(sizes) for one in trio.replicas))
    await until(lambda: all(one.partition.log.written_end_offset == len(sizes) for one in trio.replicas))
    assert stored(trio.replicas[0]) == stored(trio.replicas[1]) == stored(trio.replicas[2]) != b""


async def test_another_leader_goes_on(trio: Trio) -> None:
    trio.assign(NODES[0], epoch=1)
    assert await produce(trio.replicas[0].partition, 100) is ErrorCode.NONE
    trio.assign(NODES[1], epoch=2)
    second = trio.replicas[1].partition
    assert await produce(second, 100) is ErrorCode.NONE
    with pytest.raises(ApiError) as caught:
        trio.replicas[0].partition.append(batch(10), acks=-1, done=None)
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
    await until(lambda: trio.replicas[0].partition.high_watermark == 2)
    assert trio.replicas[0].partition.epochs.entries == [(1, 0), (2, 1)]


async def test_whoever_waits_is_sent_away_when_leadership_is_lost(trio: Trio) -> None:
    trio.replicas[2].replicas.close()  # a member of the ISR that takes nothing
    trio.assign(NODES[0], epoch=1)
    waiting = asyncio.ensure_future(produce(trio.replicas[0].partition, 100))
    await until(lambda: trio.replicas[1].partition.log.durable_end_offset == 1)
    assert not waiting.done()
    trio.assign(NODES[1], epoch=2)
    assert await waiting is ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_too_few_replicas_are_said_before_and_after_the_append(trio: Trio) -> None:
    trio.replicas[2].replicas.close()
    trio.assign(NODES[0], epoch=1)
    waiting = asyncio.ensure_future(produce(trio.replicas[0].partition, 100))
    await until(lambda: trio.replicas[1].partition.log.durable_end_offset == 1)
    trio.assign(NODES[0], epoch=1, isr=(NODES[0],))
    assert await waiting is ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    with pytest.raises(ApiError) as caught:
        trio.replicas[0].partition.append(batch(10), acks=-1, done=None)
    assert caught.value.code is ErrorCode.NOT_ENOUGH_REPLICAS


async def test_a_follower_that_has_caught_up_is_proposed(trio: Trio) -> None:
    trio.assign(NODES[0], epoch=1, isr=NODES[:2])
    proposals = trio.replicas[0].proposals
    await until(lambda: bool(proposals))
    assert [(node, epoch) for node, epoch in proposals[0].change.isr] == [(1, -1), (2, 2), (3, 3)]


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\r", b"\0\0\0\x57\1" + b"x" * 86, bytes(5000)]
)
async def test_garbage_closes_its_connection_with_one_line(trio: Trio, garbage: bytes) -> None:
    trio.assign(NODES[0], epoch=1)
    loop = asyncio.get_running_loop()
    with capture_logs() as lines, socket.create_connection(("127.0.0.1", trio.replicas[0].port)) as stranger:
        stranger.setblocking(False)
        await loop.sock_sendall(stranger, garbage)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(loop.sock_recv(stranger, 10), WAIT_S) == b""
        await until(lambda: any(line["log_level"] == "warning" for line in lines))
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["a follower's connection ends"]
    assert await produce(trio.replicas[0].partition, 10) is ErrorCode.NONE, "everybody else goes on"


async def test_a_node_without_the_secret_gets_nothing(trio: Trio, tmp_path: Path) -> None:
    trio.replicas.append(Replica(NodeId(4), tmp_path / "4", secret=b"guessed"))
    with capture_logs() as lines:
        trio.assign(NODES[0], epoch=1)
        await until(lambda: any("secret" in str(line.get("reason")) for line in lines))
    assert trio.replicas[3].partition.log_end_offset == 0


async def test_the_age_of_a_stalled_write_is_seen(trio: Trio) -> None:
    trio.assign(NODES[0], epoch=1)
    one = trio.replicas[0]
    assert one.replicas.oldest_write_age_ms() == 0.0
    environment = one.logs.environment
    environment.writing[one.partition.log] = environment.clock.monotonic_ms() - 700
    assert one.replicas.oldest_write_age_ms() >= 700
    environment.writing.clear()
