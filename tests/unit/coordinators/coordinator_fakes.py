"""A log, topics and clients for the tests of coordinators, all on the simulator's clock."""

import random
from collections.abc import Callable
from typing import Any

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.service import CONSUMER_OFFSETS, GroupCoordinator
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import ZERO_UUID, Uuid
from ottla.partitions.producer_state import ProducerStates
from ottla.partitions.results import Appended, Isolation, Origin, ReadResult
from ottla.partitions.verification import NO_GUARD, Resume, Verifications
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.heartbeat_response import HeartbeatResponse
from ottla.protocol.messages.join_group_request import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.join_group_response import JoinGroupResponse
from ottla.protocol.messages.leave_group_request import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.leave_group_response import LeaveGroupResponse
from ottla.protocol.messages.offset_commit_request import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_commit_response import OffsetCommitResponse
from ottla.protocol.messages.offset_fetch_request import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from ottla.protocol.messages.offset_fetch_response import OffsetFetchResponse
from ottla.protocol.messages.sync_group_request import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.protocol.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.records.batch import BatchHeader, Record, decode_records, patch_base_offset, validate
from ottla.records.control import read_end_transaction_marker
from ottla.testing.sim.clock import SimClock

TOPIC_ID = Uuid(b"topic-id-of-jobs")


class FakeLog:
    """A leader's log in memory. With `auto_commit` off, `commit` moves the high watermark."""

    def __init__(self, clock: SimClock, *, auto_commit: bool = True) -> None:
        self.clock, self.auto_commit = clock, auto_commit
        self.batches: list[bytes] = []
        self.log_start_offset = self.log_end_offset = self.high_watermark = 0
        self.refusals: list[ApiError] = []
        self.refused = 0
        self.producers = ProducerStates()
        self.verifications = Verifications()
        self._waiting: list[tuple[int, Callable[[ErrorCode], None]]] = []
        self._watchers: list[Callable[[], None]] = []
        self.read_bytes = 1 << 20

    def admit(self, producer_id: int, epoch: int, sequence: int, *, adds: bool, resume: Resume) -> int:
        """As a partition does."""
        self.producers.check_epoch(producer_id, epoch)
        return self.verifications.admit(
            producer_id,
            epoch,
            sequence,
            ongoing=self.producers.is_ongoing(producer_id, epoch),
            is_known=self.producers.is_known(producer_id),
            adds=adds,
            now_ms=self.clock.time_ms(),
            resume=resume,
        )

    def append(
        self,
        batch: memoryview,
        *,
        acks: int,
        done: Callable[[ErrorCode], None] | None,
        origin: Origin,
        guard: int = NO_GUARD,
        transaction_version: int = 0,
    ) -> Appended:
        assert acks == -1
        assert origin is Origin.COORDINATOR
        assert done is not None
        if self.refusals:
            self.refused += 1
            raise self.refusals.pop(0)
        header = validate(batch)
        base = self.log_end_offset
        self._check_producer(header, batch, guard, transaction_version)
        patch_base_offset(batch, 0, base, 0)
        self.batches.append(bytes(batch))
        self.log_end_offset = base + header.record_count
        self._waiting.append((self.log_end_offset, done))
        if self.auto_commit:
            self.clock.call_soon(self.commit)
        return Appended(base, self.log_end_offset - 1, -1, 0)

    def _check_producer(self, header: BatchHeader, batch: memoryview, guard: int, transaction_version: int) -> None:
        """As a partition does."""
        if header.producer_id < 0:
            return
        if header.is_control:
            marker = read_end_transaction_marker(batch)
            self.producers.check_marker(header, marker, transaction_version)
            self.producers.record_marker(header, self.log_end_offset, 0, marker)
            self.verifications.ended(header.producer_id, header.producer_epoch, transaction_version)
            return
        producer_id, epoch = header.producer_id, header.producer_epoch
        if not self.producers.is_ongoing(producer_id, epoch):
            self.verifications.check(producer_id, epoch, header.base_sequence, guard, is_known=False)
        self.producers.check(header, Origin.COORDINATOR)
        self.producers.record(header, self.log_end_offset, 0)
        if guard:
            self.verifications.begun(producer_id, epoch)

    def commit(self) -> None:
        self.high_watermark = self.log_end_offset
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(ErrorCode.NONE)
        for watcher in list(self._watchers):
            watcher()

    def fail_waiting(self, code: ErrorCode) -> None:
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(code)

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        isolation: Isolation,
        minimum_one_batch: bool,
        done: Callable[[ReadResult | ApiError], None],
    ) -> ReadResult | None:
        assert isolation is Isolation.LOG_END
        buffers: list[Any] = []
        for batch in self.batches:
            if validate(batch).last_offset >= offset and (
                not buffers or sum(map(len, buffers)) + len(batch) <= min(max_bytes, self.read_bytes)
            ):
                buffers.append(batch)
        return ReadResult(buffers, sum(map(len, buffers)), self.high_watermark, self.high_watermark, 0)

    def records(self) -> list[Record]:
        """Without those that end transactions."""
        return [record for batch in self.batches if not validate(batch).is_control for record in decode_records(batch)]

    def add_watcher(self, watcher: Callable[[], None], /) -> None:
        self._watchers.append(watcher)

    def remove_watcher(self, watcher: Callable[[], None], /) -> None:
        self._watchers.remove(watcher)


class FakeTopics:
    """`jobs` with eight partitions, and the internal topic with one, so that all groups share a shard."""

    def __init__(self) -> None:
        self.counts = {"jobs": 8, CONSUMER_OFFSETS: 1}
        self.jobs_id = TOPIC_ID
        self.other_ids: dict[str, Uuid] = {}

    def create(self, name: str, partitions: int) -> Uuid:
        """A topic, or a new one of the same name."""
        topic_id = Uuid(f"{name}#{len(self.other_ids)}".encode().ljust(16, b"-")[:16])
        self.counts[name], self.other_ids[name] = partitions, topic_id
        return topic_id

    def topic_id(self, name: str) -> Uuid | None:
        if name not in self.counts:
            return None
        return self.jobs_id if name == "jobs" else self.other_ids.get(name)

    def topic_name(self, topic_id: Uuid) -> str | None:
        if topic_id == self.jobs_id:
            return "jobs"
        return next((name for name, one in self.other_ids.items() if one == topic_id and name in self.counts), None)

    def partition_count(self, name: str) -> int:
        return self.counts.get(name, 0)

    def names(self) -> list[str]:
        return [name for name in self.counts if name != CONSUMER_OFFSETS]


class FakeVerifier:
    """Says what `answers` has for the next questions, NONE when that is empty; with `hold` it waits for `answer`."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.asked: list[tuple[str, int, int, str, int, bool]] = []
        self.answers: list[ErrorCode] = []
        self.hold = False
        self._held: list[Callable[[ErrorCode], None]] = []

    def ask(
        self,
        transactional_id: str,
        producer_id: int,
        producer_epoch: int,
        topic: str,
        index: int,
        verify_only: bool,
        done: Callable[[ErrorCode], None],
    ) -> None:
        self.asked.append((transactional_id, producer_id, producer_epoch, topic, index, verify_only))
        if self.hold:
            self._held.append(done)
        else:
            self._clock.call_soon(done, self.answers.pop(0) if self.answers else ErrorCode.NONE)

    def answer(self, code: ErrorCode = ErrorCode.NONE) -> None:
        """The oldest question that is held."""
        self._held.pop(0)(code)


class Answer:
    """Where a response arrives; a second one is an error."""

    def __init__(self, log: FakeLog | None = None) -> None:
        self.responses: list[Any] = []
        self.refused_before = 0
        """How many appends had failed when the response came."""
        self._log = log

    def __call__(self, response: Any) -> None:
        assert not self.responses, f"answered twice: {self.responses} {response}"
        self.responses.append(response)
        self.refused_before = self._log.refused if self._log is not None else 0

    @property
    def arrived(self) -> bool:
        return bool(self.responses)

    def take(self) -> Any:
        assert self.responses, "not answered yet"
        return self.responses[0]

    @property
    def code(self) -> ErrorCode:
        return ErrorCode(self.take().error_code)


def quiet(event: str, **fields: Any) -> None:
    """A log that nobody reads, in which a defect of ours is not forgiven."""
    assert event != "coordinator_operation_failed", fields


class Cluster:
    """A node with the one partition of the internal topic, and the calls of clients."""

    def __init__(self, *, auto_commit: bool = True, session_timeout_ms: int = 10_000, **config: Any) -> None:
        self.clock = SimClock()
        self.log = FakeLog(self.clock, auto_commit=auto_commit)
        self.topics = FakeTopics()
        self.config = GroupConfig(**{"group_initial_rebalance_delay_ms": 0, **config})
        self.session_timeout_ms = session_timeout_ms
        self.verifier = FakeVerifier(self.clock)
        self.connection = 0
        """On which the next calls come."""
        self.reported: list[tuple[str, dict[str, Any]]] = []
        self.epoch = 0
        self.coordinator = self._start()
        self.run()

    def _start(self) -> GroupCoordinator:
        coordinator = GroupCoordinator(
            config=self.config,
            clock=self.clock,
            random=random.Random(7 + self.epoch),
            topics=self.topics,
            report=self._report,
            verifier=self.verifier,
        )
        coordinator.lead(0, self.log, self.epoch)
        return coordinator

    def _report(self, event: str, **fields: Any) -> None:
        quiet(event, **fields)
        self.reported.append((event, fields))

    def _caller(self, version: int, client: str = "client") -> Caller:
        return Caller(client, "/127.0.0.1", version, self.connection)

    def close(self, connection: int) -> None:
        """The client's connection is no more."""
        self.coordinator.connection_closed(connection)
        self.run()

    def restart(self) -> None:
        """A crash of the process: only the log is left."""
        self.clock.forget_all()
        self.log = self._copy_log()
        self.epoch += 1
        self.coordinator = self._start()
        self.run()

    def _copy_log(self) -> FakeLog:
        log = FakeLog(self.clock, auto_commit=True)
        log.batches = list(self.log.batches)
        log.log_end_offset = log.high_watermark = self.log.log_end_offset
        log.producers = self.log.producers
        return log

    def run(self, duration_ms: float = 0) -> None:
        self.clock.run_for(duration_ms)

    # --- calls

    def join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        instance: str | None = None,
        protocols: tuple[str, ...] = ("range",),
        metadata: bytes = b"",
        version: int = 9,
        client: str = "client",
        session_timeout_ms: int | None = None,
        rebalance_timeout_ms: int = 60_000,
        protocol_type: str = "consumer",
    ) -> Answer:
        answer = Answer(self.log)
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=self.session_timeout_ms if session_timeout_ms is None else session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol(name=name, metadata=metadata) for name in protocols],
        )
        self.coordinator.join_group(request, self._caller(version, client), answer)
        self.run()
        return answer

    def join_new(self, **arguments: Any) -> tuple[str, Answer]:
        """A new member: asks for an id and comes back with it. Its id, and what awaits the rebalance."""
        first: JoinGroupResponse = self.join(**arguments).take()
        assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
        return first.member_id, self.join(first.member_id, **arguments)

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        group: str = "g",
        instance: str | None = None,
        protocol: str | None = "range",
    ) -> Answer:
        answer = Answer()
        request = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type="consumer",
            protocol_name=protocol,
            assignments=[
                SyncGroupRequestAssignment(member_id=name, assignment=part)
                for name, part in (assignments or {}).items()
            ],
        )
        # Version 5 has to name the protocol.
        self.coordinator.sync_group(request, self._caller(4 if protocol is None else 5), answer)
        self.run()
        return answer

    def heartbeat(self, member_id: str, generation: int, *, group: str = "g", instance: str | None = None) -> ErrorCode:
        answer = Answer()
        self.coordinator.heartbeat(
            HeartbeatRequest(group_id=group, generation_id=generation, member_id=member_id, group_instance_id=instance),
            self._caller(4),
            answer,
        )
        self.run()
        response: HeartbeatResponse = answer.take()
        return ErrorCode(response.error_code)

    def leave(
        self, *members: str, group: str = "g", instances: tuple[str, ...] = (), version: int = 5
    ) -> LeaveGroupResponse:
        answer = Answer()
        if version < 3:
            (member_id,) = members
            request = LeaveGroupRequest(group_id=group, member_id=member_id)
            self.coordinator.leave_group(request, self._caller(version), answer)
            self.run()
            old: LeaveGroupResponse = answer.take()
            return old
        identities = [MemberIdentity(member_id=member_id) for member_id in members]
        identities += [MemberIdentity(member_id="", group_instance_id=instance) for instance in instances]
        self.coordinator.leave_group(LeaveGroupRequest(group_id=group, members=identities), self._caller(5), answer)
        self.run()
        response: LeaveGroupResponse = answer.take()
        return response

    def commit(
        self,
        offsets: dict[int, int],
        *,
        group: str = "g",
        member_id: str = "",
        generation: int = -1,
        topic: str = "jobs",
        metadata: str | None = "",
        version: int = 9,
        retention_ms: int = -1,
        instance: str | None = None,
    ) -> Answer:
        answer = Answer()
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
            topics=[
                OffsetCommitRequestTopic(
                    name=topic if version < 10 else "",
                    topic_id=TOPIC_ID if version >= 10 and topic == "jobs" else ZERO_UUID,
                    partitions=[
                        OffsetCommitRequestPartition(
                            partition_index=index,
                            committed_offset=offset,
                            committed_leader_epoch=3,
                            committed_metadata=metadata,
                        )
                        for index, offset in offsets.items()
                    ],
                )
            ],
        )
        self.coordinator.commit_offsets(request, self._caller(version), answer)
        return answer

    def committed(self, answer: Answer) -> list[ErrorCode]:
        """The outcome of a commit for each partition."""
        self.run()
        return self.committed_codes(answer)

    @staticmethod
    def committed_codes(answer: Answer) -> list[ErrorCode]:
        """Of an answer that has arrived."""
        response: OffsetCommitResponse = answer.take()
        return [ErrorCode(item.error_code) for topic in response.topics for item in topic.partitions]

    def commit_transactional(
        self,
        offsets: dict[int, int],
        *,
        producer: int = 1,
        epoch: int = 0,
        group: str = "g",
        member_id: str = "",
        generation: int = -1,
        instance: str | None = None,
        topic: str = "jobs",
        metadata: str | None = "",
        version: int = 4,
    ) -> Answer:
        """TxnOffsetCommit; `committed` has the outcome."""
        answer = Answer()
        request = TxnOffsetCommitRequest(
            transactional_id=f"transactional-{producer}",
            group_id=group,
            producer_id=producer,
            producer_epoch=epoch,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            topics=[
                TxnOffsetCommitRequestTopic(
                    name=topic,
                    partitions=[
                        TxnOffsetCommitRequestPartition(
                            partition_index=index,
                            committed_offset=offset,
                            committed_leader_epoch=3,
                            committed_metadata=metadata,
                        )
                        for index, offset in offsets.items()
                    ],
                )
            ],
        )
        self.coordinator.commit_transactional_offsets(request, self._caller(version), answer)
        return answer

    def end_transaction(
        self, committed: bool, *, producer: int = 1, epoch: int = 0, coordinator_epoch: int = 0, version: int = 1
    ) -> Answer:
        """WriteTxnMarkers; the answer is an error code."""
        answer = Answer()
        self.coordinator.complete_transaction(0, producer, epoch, coordinator_epoch, committed, version, answer)
        return answer

    def fetch(
        self, group: str = "g", *, partitions: tuple[int, ...] | None = None, require_stable: bool = False
    ) -> dict[int, int]:
        """Committed offsets of `jobs`, all of them unless `partitions` says which; -2 for one that is not stable."""
        answer = Answer()
        topics = None
        if partitions is not None:
            topics = [OffsetFetchRequestTopics(name="jobs", partition_indexes=list(partitions))]
        self.coordinator.fetch_offsets(
            OffsetFetchRequest(
                groups=[OffsetFetchRequestGroup(group_id=group, topics=topics)], require_stable=require_stable
            ),
            self._caller(9),
            answer,
        )
        self.run()
        response: OffsetFetchResponse = answer.take()
        (found,) = response.groups
        assert found.error_code == 0
        items = [item for topic in found.topics for item in topic.partitions]
        unstable = ErrorCode.UNSTABLE_OFFSET_COMMIT
        assert all(item.error_code == ErrorCode.NONE or item.committed_offset == -1 for item in items)
        return {item.partition_index: -2 if item.error_code == unstable else item.committed_offset for item in items}

    # --- scenes

    def joined(self, count: int, **arguments: Any) -> tuple[list[str], int]:
        """That many members in one generation, which waits for its leader: the first of them."""
        ids: list[str] = []
        for _ in range(count):
            newcomer, answer = self.join_new(**arguments)
            for member_id in ids:
                self.join(member_id, **arguments)
            assert answer.code == 0
            ids.append(newcomer)
        return ids, self.generation(arguments.get("group", "g"))

    def stable(self, count: int, **arguments: Any) -> tuple[list[str], int]:
        """As `joined`, and each member has its assignment: its own name."""
        ids, generation = self.joined(count, **arguments)
        group = arguments.get("group", "g")
        followers = [self.sync(member_id, generation, group=group) for member_id in ids[1:]]
        leader = self.sync(ids[0], generation, {member_id: member_id.encode() for member_id in ids}, group=group)
        for member_id, answer in zip(ids, (leader, *followers), strict=True):
            assert answer.take().assignment == member_id.encode()
        return ids, generation

    def group(self, group: str = "g") -> Any:
        (shard,) = self.coordinator.runtime.active_shards()
        return shard.groups[group]

    def generation(self, group: str = "g") -> int:
        generation: int = self.group(group).generation_id
        return generation
