"""The calls that commit offsets, in transactions too, and fetch them."""

from ottla.core.errors import ErrorCode
from ottla.core.types import ZERO_UUID
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
from ottla.protocol.messages.txn_offset_commit_request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.unit.coordinators.coordinator_fakes import TOPIC_ID, Answer
from tests.unit.coordinators.group_node import GroupNode


class OffsetCalls(GroupNode):
    """A commit is only sent: `committed` lets the node work on it."""

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
