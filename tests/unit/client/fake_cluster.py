"""A cluster in memory behind the client's transport port: idempotent appends, and faults that a test asks for."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NoReturn

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.mirrors import MirrorCalls
from ottla.client.operations import Operations
from ottla.client.transport import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    FetchRequest,
    FetchResult,
    ProduceRequest,
    ProduceResult,
)
from ottla.client.types import (
    ClusterDescription,
    Node,
    OffsetAndTimestamp,
    PartitionDescription,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from ottla.records.batch import Record, decode_records, patch_base_offset, read_header
from tests.unit.client.fake_groups import FakeGroups
from tests.unit.client.fake_transactions import FakeTransactions

Fault = Callable[[ProduceRequest], Awaitable[ClientError | None]]
"""Awaited before a request is appended. An error: the request fails with it, unappended."""


class FakeLog:
    """One partition."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.end = 0
        self.start = 0
        self.sequences: dict[int, tuple[int, int]] = {}  # by producer id: epoch, next sequence
        self.appended: dict[tuple[int, int, int], int] = {}  # (id, epoch, sequence) -> base offset

    def append(self, batch: bytes) -> ProduceResult:
        header = read_header(batch)
        if header.producer_id >= 0:
            known = (header.producer_id, header.producer_epoch, header.base_sequence)
            if known in self.appended:
                return ProduceResult(None, self.appended[known], -1)
            epoch, expected = self.sequences.get(header.producer_id, (header.producer_epoch, 0))
            if header.producer_epoch < epoch:
                return failed(ErrorCode.INVALID_PRODUCER_EPOCH)
            if header.producer_epoch > epoch:
                expected = 0
            if header.base_sequence != expected:
                return failed(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
            after = header.base_sequence + header.record_count
            self.sequences[header.producer_id] = (header.producer_epoch, after)
            self.appended[known] = self.end
        mutable = bytearray(batch)
        base = self.end
        patch_base_offset(memoryview(mutable), 0, base, 0)
        self.batches.append(bytes(mutable))
        self.end += header.record_count
        return ProduceResult(None, base, -1)

    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in decode_records(batch)]


def failed(code: ErrorCode, message: str = "") -> ProduceResult:
    return ProduceResult(ClientError(code, message), -1, -1)


class FakeCluster:
    """Implements `ottla.client.transport.Transport`."""

    def __init__(self, **topics: int) -> None:
        self.partition_counts = dict(topics)
        self.logs: defaultdict[TopicPartition, FakeLog] = defaultdict(FakeLog)
        self.topic_errors: dict[str, ClientError] = {}
        self.requests: list[ProduceRequest] = []
        self.faults: deque[Fault | None] = deque()  # for the next requests, in order
        self.lose_answers: deque[bool] = deque()  # for the next requests: appended, but the answer gets lost
        self.always: Fault | None = None
        self.fetch_errors: deque[ClientError] = deque()
        self.fetches = 0
        self.idle_fetch = asyncio.Event()  # set once a fetch found nothing and waits
        self.producer_ids = 0
        self.closed = False
        self.asked_elsewhere = 0
        self.aborted: dict[TopicPartition, list[tuple[int, int]]] = {}
        self.group_coordinator = FakeGroups(self.partition_counts)
        self.transaction_coordinator = FakeTransactions()
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def log(self, topic: str, partition: int = 0) -> FakeLog:
        return self.logs[TopicPartition(topic, partition)]

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        return [record.value for record in self.log(topic, partition).records()]

    @property
    def mirrors(self) -> MirrorCalls:
        raise NotImplementedError

    @property
    def operations(self) -> Operations:
        raise NotImplementedError

    @property
    def groups(self) -> FakeGroups:
        return self.group_coordinator

    @property
    def transactions(self) -> FakeTransactions:
        return self.transaction_coordinator

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True
        for task in self._tasks:
            task.cancel()

    def ask_elsewhere(self) -> None:
        self.asked_elsewhere += 1

    async def describe_cluster(self) -> ClusterDescription:
        return ClusterDescription(
            cluster_id="fake", controller_id=1, nodes=(Node(node_id=1, host="localhost", port=1),)
        )

    async def list_topics(self, *, include_internal: bool) -> list[TopicListing]:
        return [
            TopicListing(name=name, topic_id="", internal=False, num_partitions=count)
            for name, count in self.partition_counts.items()
        ]

    async def describe_topics(
        self, names: Sequence[str] | None, *, allow_auto_create: bool
    ) -> tuple[list[TopicDescription], dict[str, ClientError]]:
        found: list[TopicDescription] = []
        errors: dict[str, ClientError] = {}
        for name in self.partition_counts if names is None else names:
            if name in self.topic_errors:
                errors[name] = self.topic_errors[name]
            elif name in self.partition_counts:
                partitions = tuple(
                    PartitionDescription(
                        partition=index, leader_id=1, leader_epoch=0, replica_ids=(1,), in_sync_replica_ids=(1,)
                    )
                    for index in range(self.partition_counts[name])
                )
                found.append(TopicDescription(name=name, topic_id="", internal=False, partitions=partitions))
            else:
                errors[name] = ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic=name)
        return found, errors

    async def init_producer_id(self) -> tuple[int, int]:
        self.producer_ids += 1
        return 1000 + self.producer_ids, 0

    def produce(self, node_id: int, request: ProduceRequest) -> "asyncio.Future[dict[TopicPartition, ProduceResult]]":
        answer: asyncio.Future[dict[TopicPartition, ProduceResult]] = asyncio.get_running_loop().create_future()
        self.requests.append(request)
        task = asyncio.get_running_loop().create_task(self._serve(request, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    async def _serve(
        self, request: ProduceRequest, answer: "asyncio.Future[dict[TopicPartition, ProduceResult]]"
    ) -> None:
        async with self._order:  # a connection keeps the order
            fault = self.faults.popleft() if self.faults else self.always
            lost = self.lose_answers.popleft() if self.lose_answers else False
            error = await fault(request) if fault is not None else None
            if error is not None:
                answer.set_exception(error)
                return
            results = {partition: self.logs[partition].append(bytes(batch)) for partition, batch in request.batches}
            if lost:
                answer.set_exception(ClientError(ErrorCode.NETWORK_EXCEPTION, "the answer got lost"))
            else:
                answer.set_result(results)

    async def fetch(self, node_id: int, request: FetchRequest) -> list[FetchResult]:
        self.fetches += 1
        if self.fetch_errors:
            raise self.fetch_errors.popleft()
        deadline = asyncio.get_running_loop().time() + request.max_wait_ms / 1000
        while True:
            results = [self._read(it.topic_partition, it.fetch_offset, it.max_bytes) for it in request.partitions]
            if any(result.batches or result.error for result in results):
                return results
            if asyncio.get_running_loop().time() >= deadline:
                return results
            self.idle_fetch.set()
            await asyncio.sleep(0.005)

    def _read(self, partition: TopicPartition, offset: int, max_bytes: int) -> FetchResult:
        log = self.logs[partition]
        error = None
        data = bytearray()
        if not log.start <= offset <= log.end:
            error = ClientError(ErrorCode.OFFSET_OUT_OF_RANGE, topic=partition.topic, partition=partition.partition)
        else:
            for batch in log.batches:
                if read_header(batch).next_offset > offset and (not data or len(data) + len(batch) <= max_bytes):
                    data += batch
        aborted = self.aborted.get(partition, [])
        return FetchResult(partition, error, bytes(data), log.end, log.end, log.start, aborted)

    async def list_offsets(
        self, node_id: int, timestamps: Mapping[TopicPartition, int], *, read_committed: bool
    ) -> dict[TopicPartition, OffsetAndTimestamp | ClientError]:
        found: dict[TopicPartition, OffsetAndTimestamp | ClientError] = {}
        for partition, timestamp in timestamps.items():
            log = self.logs[partition]
            if timestamp == EARLIEST_TIMESTAMP:
                found[partition] = OffsetAndTimestamp(log.start, -1)
            elif timestamp == LATEST_TIMESTAMP:
                found[partition] = OffsetAndTimestamp(log.end, -1)
            else:
                later = (record for record in log.records() if record.timestamp >= timestamp)
                record = next(later, None)
                found[partition] = OffsetAndTimestamp(*(record[:2] if record else (-1, -1)))
        return found

    async def create_topics(self, topics: object, **options: object) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def delete_topics(self, names: object, **options: object) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def create_partitions(self, total_counts: object, **options: object) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def delete_records(self, node_id: int, before_offsets: object, **options: object) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def describe_configs(self, resources: object, **options: object) -> NoReturn:
        raise AssertionError("not asked for in these tests")

    async def alter_configs(self, changes: object, **options: object) -> NoReturn:
        raise AssertionError("not asked for in these tests")
