"""Producers that retry as real ones do, and consumers that read everything in order."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from ottla.broker.fetch_messages import FetchPartition, FetchRequest, FetchResponse
from ottla.broker.metadata_answer import MetadataAnswer
from ottla.broker.produce import ProducedTopics, ProduceRequest
from ottla.controller.image import NO_LEADER, PartitionImage, TopicImage
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.partitions.partition import Partition
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.records.header import LOG_OVERHEAD_BYTES, read_header, validate
from tests.sim.cluster.calls import Calls, Reply, Unanswered, Unreached
from tests.sim.cluster.checker import Checker
from tests.sim.cluster.host import Host, Process
from tests.sim.log_harness import make_batch
from tests.sim.raft.violation import Violation
from tests.sim.replication.contents import Held

FAILURES = (ApiError, Unanswered, Unreached)
REQUEST_S = 2.0


class Client:
    """Knows the metadata of topics as some node told them once."""

    def __init__(self, name: str, calls: Calls, hosts: Sequence[Host], checker: Checker, random: Random) -> None:
        self.name, self.calls, self.hosts, self.checker, self.random = name, calls, hosts, checker, random
        self.stopped = False
        self._topics: dict[str, TopicImage] = {}

    async def run(self) -> None:
        """Until `stopped`."""

    async def topic(self, name: str) -> TopicImage | None:
        """Ask somebody for it, and keep it."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        try:
            answer: MetadataAnswer = await self.calls.ask(self.random.choice(self.hosts), ApiKey.METADATA, request)
        except FAILURES:
            return None
        found = answer.topics[0]
        if not isinstance(found, TopicImage):
            return None
        self._topics[name] = found
        return found

    async def partition(self, name: str, index: int) -> tuple[Uuid, PartitionImage] | None:
        """As this client knows it."""
        topic = self._topics.get(name) or await self.topic(name)
        if topic is None or index >= len(topic.partitions):
            self.forget()
            return None
        return topic.id, topic.partitions[index]

    def forget(self) -> None:
        """What it knows is of no use."""
        self._topics.clear()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * (0.5 + self.random.random()))


class Producer(Client):
    """One batch at a time. With `acks` 1 what it writes may vanish, which makes logs diverge."""

    def __init__(self, *arguments: Any, topic: str, index: int) -> None:
        super().__init__(*arguments)
        self.topic_name, self.index = topic, index
        self.acks = 1 if self.random.random() < 0.2 else -1
        self.idempotent = self.acks == -1 and self.random.random() < 0.8
        self.acknowledged = self._count = self._sequence = 0
        self._producer_id = -1

    async def run(self) -> None:
        while not self.stopped:
            if self.idempotent and self._producer_id < 0:
                await self._begin()
                continue
            self._count += 1
            await self._deliver()
            options = self.checker.setting.options
            await self.pause(2.0 if self.random.random() < options.quiet else options.think_s)

    async def _begin(self) -> None:
        try:
            answer = await self.calls.ask(
                self.random.choice(self.hosts), ApiKey.INIT_PRODUCER_ID, InitProducerIdRequest(transactional_id=None)
            )
        except FAILURES:
            await self.pause(0.05)
            return
        if not answer.error_code:
            self.checker.images.producer_id_given(answer.producer_id)
            self._producer_id = answer.producer_id
        else:
            await self.pause(0.05)

    async def _deliver(self) -> None:
        records = self.random.randrange(1, 4)
        size = self.random.choice([10, 10, 100, 900])
        values = [f"{self.name}:{self._count}:{n}".encode() + b"v" * size for n in range(records)]
        fields: dict[str, Any] = {}
        if self.idempotent:
            fields = {"producer_id": self._producer_id, "producer_epoch": 0, "base_sequence": self._sequence}
        batch = make_batch(values, **fields)
        if self.idempotent:
            self.checker.replicas.idempotent.add(read_header(batch).crc)
        while not await self._send(batch, records):
            if self.stopped:
                return
            await self.pause(0.02)
        self._sequence += records
        self.acknowledged += 1

    async def _send(self, batch: bytes, records: int) -> bool:
        known = await self.partition(self.topic_name, self.index)
        if known is None:
            return False
        topic_id, partition = known
        leader = partition.leader if self.random.random() < 0.95 else self.random.choice(partition.replicas)
        if leader == NO_LEADER:
            self.forget()
            return False
        try:
            code = await self.calls.call(
                self.hosts[leader - 1],
                lambda process, reply: self._append(process, reply, topic_id, batch, records),
                within_s=REQUEST_S,
            )
        except (Unanswered, Unreached) as error:
            if isinstance(error, Unanswered):
                self.checker.setting.coverage.note("retry after an unknown outcome")
            self.forget()
            return False
        if code is not ErrorCode.NONE:
            self.forget()
        return code is ErrorCode.NONE

    def _append(self, process: Process, reply: Reply, topic_id: Uuid, batch: bytes, records: int) -> None:
        """On the node."""
        partition = process.broker.partitions.get(self.topic_name, self.index)
        before = partition.log_end_offset if partition is not None else -1

        def done(topics: ProducedTopics) -> None:
            (produced,) = topics[0][1]
            if produced.error is ErrorCode.NONE and self.acks == -1:
                assert partition is not None
                self._acknowledged(process, partition, produced.base_offset, records, batch)
                if produced.base_offset < before:
                    self.checker.setting.coverage.note("duplicate found")
            elif produced.error in (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH):
                self._judge(process, produced.error)
            reply(produced.error)

        topic: str | Uuid = topic_id if self.random.random() < 0.5 else self.topic_name
        buffer = memoryview(bytearray(batch))
        process.broker.produce(
            ProduceRequest(acks=self.acks, timeout_ms=1500, topics=[(topic, [(self.index, buffer)])]), done
        )

    def _acknowledged(
        self, process: Process, partition: Partition, base_offset: int, records: int, batch: bytes
    ) -> None:
        epoch = self.checker.replicas.contents.epoch_of(partition, base_offset)
        crc = read_header(batch).crc
        self.checker.acknowledged(process, partition, Held(base_offset, base_offset + records, epoch, crc))

    def _judge(self, process: Process, code: ErrorCode) -> None:
        """One batch at a time, each retried until it is acknowledged: there is no gap, unless records are gone.

        One that leads without knowing that it does not any more may miss much.
        """
        partition = process.broker.partitions.get(self.topic_name, self.index)
        topic = self.checker.topic(self.topic_name)
        if partition is None or topic is None or topic.id != partition.topic_id:
            return
        if topic.partitions[self.index].leader_epoch == partition.leader_epoch:
            raise self.checker.fail(
                Violation("acknowledged stays", f"{self.name} is refused with {code.name} though it has no gap")
            )


class Consumer(Client):
    """Reads one partition from its first record on, of its leader and sometimes of another replica."""

    def __init__(self, *arguments: Any, topic: str, index: int) -> None:
        super().__init__(*arguments)
        self.topic_name, self.index = topic, index
        self.position = 0

    async def run(self) -> None:
        while not self.stopped:
            if not await self._read():
                self.forget()
                await self.pause(0.03)

    async def _read(self) -> bool:
        known = await self.partition(self.topic_name, self.index)
        if known is None:
            return False
        topic_id, partition = known
        anywhere = self.random.random() < 0.3
        node = self.random.choice(partition.replicas) if anywhere else partition.leader
        if node == NO_LEADER:
            return False
        try:
            read = await self.read_from(
                self.hosts[node - 1], topic_id, partition.leader_epoch, rack="" if anywhere else None
            )
        except (Unanswered, Unreached):
            return False
        if read and node != partition.leader:
            self.checker.setting.coverage.note("read from a follower")
        return read is not None

    async def read_from(self, host: Host, topic_id: Uuid, epoch: int, *, rack: str | None) -> int | None:
        """How many batches; None when there was an error."""
        position = self.position

        def begin(process: Process, reply: Reply) -> None:
            def done(response: FetchResponse) -> None:
                try:
                    reply(self._judged(process, topic_id, position, response))
                except Violation as violation:
                    self.checker.fail(violation)

            request = FetchRequest(
                partitions=[FetchPartition(topic_id, self.index, position, 4000, epoch)],
                max_wait_ms=200, min_bytes=1, rack=rack,
            )  # fmt: skip
            process.broker.fetch(request, done)

        batches: list[Held] | None = await self.calls.call(host, begin, within_s=REQUEST_S)
        if batches is None:
            return None
        for held in batches:
            self.position = held.next_offset
        return len(batches)

    def _judged(self, process: Process, topic_id: Uuid, position: int, response: FetchResponse) -> list[Held] | None:
        """On the node: what it gives the consumer, in order and without a gap."""
        (fetched,) = response.partitions
        if fetched.error:
            return None
        data = b"".join(fetched.buffers)
        batches: list[Held] = []
        at = 0
        while at < len(data):
            header = validate(data, at)
            at += LOG_OVERHEAD_BYTES + header.batch_length
            held = Held(header.base_offset, header.next_offset, header.partition_leader_epoch, header.crc)
            if held.next_offset <= position:
                continue
            if held.base_offset != position:
                raise Violation("readable in order", f"{self.name} is at {position} and is given {held}")
            position = held.next_offset
            batches.append(held)
        self.checker.fetched(process, (topic_id, self.index), batches)
        return batches
