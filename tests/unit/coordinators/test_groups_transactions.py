"""Offsets of transactions: pending until their producer's transaction ends, and what happens to them meanwhile."""

import pytest

from ottla.core.error_codes import ErrorCode
from ottla.core.errors import ApiError
from ottla.records.batch import validate
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.group_cluster import Cluster
from tests.unit.coordinators.test_groups_admin import delete as delete_groups
from tests.unit.coordinators.test_groups_offsets import DAY_MS, delete

NONE = ErrorCode.NONE
LOADING = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
UNSTABLE = -2
REFUSED = ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)


def pend(cluster: Cluster, offsets: dict[int, int], *, producer: int = 1, group: str = "g") -> None:
    """Offsets in the producer's open transaction."""
    outcome = cluster.committed(cluster.commit_transactional(offsets, producer=producer, group=group))
    assert outcome == [NONE] * len(offsets)


def end(cluster: Cluster, committed: bool, *, producer: int = 1) -> ErrorCode:
    answer = cluster.end_transaction(committed, producer=producer)
    cluster.run()
    return ErrorCode(answer.take())


class TestVisibility:
    def test_comes_with_the_commit(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        pend(cluster, {0: 5, 1: 6})
        assert cluster.fetch() == {0: 1}
        assert cluster.fetch(partitions=(0, 1, 2)) == {0: 1, 1: -1, 2: -1}
        assert end(cluster, committed=True) is NONE
        assert cluster.fetch() == {0: 5, 1: 6}

    def test_does_not_come_with_an_abort(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        pend(cluster, {0: 5, 1: 6})
        assert end(cluster, committed=False) is NONE
        assert cluster.fetch(require_stable=True) == {0: 1}

    def test_is_withheld_from_those_who_want_it_stable(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1, 2: 2}))
        pend(cluster, {0: 5, 1: 6})
        assert cluster.fetch(partitions=(0, 1, 2), require_stable=True) == {0: UNSTABLE, 1: UNSTABLE, 2: 2}
        assert cluster.fetch(require_stable=True) == {0: UNSTABLE, 2: 2}
        end(cluster, committed=True)
        assert cluster.fetch(require_stable=True) == {0: 5, 1: 6, 2: 2}

    def test_survives_a_restart_in_between(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.restart()
        assert cluster.fetch() == {}
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: UNSTABLE}
        assert end(cluster, committed=True) is NONE
        cluster.restart()
        assert cluster.fetch(require_stable=True) == {0: 5}

    def test_of_an_abort_survives_a_restart_too(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        end(cluster, committed=False)
        cluster.restart()
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: -1}

    def test_is_not_shown_before_the_marker_is_committed(self) -> None:
        cluster = Cluster(auto_commit=False)
        pending = cluster.commit_transactional({0: 5})
        cluster.run()
        assert not pending.arrived
        cluster.log.commit()
        ended = cluster.end_transaction(True)
        fetched = Answer()
        cluster.coordinator.runtime.execute(0, fetched, lambda shard, effects: effects.reply(fetched, shard.offsets))
        cluster.run()
        assert not ended.arrived
        assert not fetched.arrived
        cluster.log.commit()
        assert ended.take() is NONE
        assert fetched.arrived

    def test_of_one_producer_says_nothing_about_another(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5, 1: 5}, producer=1)
        pend(cluster, {0: 7}, producer=2)
        end(cluster, committed=True, producer=1)
        assert cluster.fetch(require_stable=True) == {0: UNSTABLE, 1: 5}
        end(cluster, committed=False, producer=2)
        assert cluster.fetch(require_stable=True) == {0: 5, 1: 5}


class TestOrder:
    """The log's order decides between offsets, also after a restart."""

    @pytest.fixture(params=[False, True], ids=["at once", "after a restart"])
    def restarts(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def test_a_later_plain_commit_wins_over_a_pending_one(self, restarts: bool) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5, 1: 5})
        cluster.committed(cluster.commit({0: 9}))
        assert cluster.fetch(require_stable=True) == {0: UNSTABLE}
        if restarts:
            cluster.restart()
        end(cluster, committed=True)
        assert cluster.fetch() == {0: 9, 1: 5}

    def test_a_pending_one_wins_over_an_earlier_plain_commit(self, restarts: bool) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 9}))
        pend(cluster, {0: 5})
        if restarts:
            cluster.restart()
        end(cluster, committed=True)
        assert cluster.fetch() == {0: 5}

    def test_the_later_of_two_transactions_wins_whichever_ends_first(self, restarts: bool) -> None:
        for order in ((1, 2), (2, 1)):
            cluster = Cluster()
            pend(cluster, {0: 5}, producer=1)
            pend(cluster, {0: 7}, producer=2)
            for producer in order:
                if restarts:
                    cluster.restart()
                end(cluster, committed=True, producer=producer)
            assert cluster.fetch(require_stable=True) == {0: 7}

    def test_the_last_offset_of_a_transaction_counts(self, restarts: bool) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.committed(cluster.commit({0: 9}))
        pend(cluster, {0: 6})
        if restarts:
            cluster.restart()
        end(cluster, committed=True)
        assert cluster.fetch() == {0: 6}

    def test_a_plain_commit_that_fails_overtakes_nothing(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.log.refusals.append(REFUSED)
        cluster.committed(cluster.commit({0: 9}))
        end(cluster, committed=True)
        assert cluster.fetch() == {0: 5}


class TestWriting:
    def test_makes_a_batch_of_the_producer_and_a_marker(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit_transactional({0: 5}, producer=3, epoch=2))
        cluster.commit({0: 1})
        cluster.commit_transactional({1: 5, 2: 5}, producer=3, epoch=2)
        cluster.commit({0: 2})
        cluster.run()
        cluster.end_transaction(True, producer=3, epoch=2)
        headers = [validate(batch) for batch in cluster.log.batches]
        assert [(header.is_transactional, header.is_control, header.record_count) for header in headers] == [
            (True, False, 1),
            (False, False, 1),
            (True, False, 2),
            (False, False, 1),
            (True, True, 1),
        ]
        written = [(header.producer_id, header.producer_epoch, header.base_sequence) for header in headers]
        assert written == [(3, 2, -1), (-1, -1, -1), (3, 2, -1), (-1, -1, -1), (3, 2, -1)]

    def test_of_what_a_turn_has_before_goes_first(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        plain = cluster.commit({0: 9})
        ended = cluster.end_transaction(True)
        cluster.run()
        assert (cluster.committed(plain), ended.take()) == ([NONE], NONE)
        assert cluster.fetch() == {0: 9}
        cluster.restart()
        assert cluster.fetch() == {0: 9}

    def test_that_fails_leaves_nothing(self) -> None:
        cluster = Cluster()
        cluster.log.refusals.append(REFUSED)
        refused = cluster.committed(cluster.commit_transactional({0: 5}))
        assert refused == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: -1}
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert shard.groups == {}

    def test_of_a_marker_that_fails_keeps_the_transaction_open(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.log.refusals.append(REFUSED)
        assert end(cluster, committed=True) is ErrorCode.NOT_ENOUGH_REPLICAS
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: UNSTABLE}
        assert end(cluster, committed=True) is NONE
        assert cluster.fetch() == {0: 5}

    def test_fails_with_what_the_turn_had_before(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.log.refusals.append(REFUSED)
        plain = cluster.commit({1: 9})
        ended = cluster.end_transaction(True)
        cluster.run()
        assert cluster.committed(plain) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        assert ended.take() is ErrorCode.NOT_ENOUGH_REPLICAS
        assert cluster.fetch(partitions=(0, 1), require_stable=True) == {0: UNSTABLE, 1: -1}

    def test_of_a_second_marker_changes_nothing(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        end(cluster, committed=True)
        cluster.committed(cluster.commit({0: 9}))
        assert end(cluster, committed=True) is NONE
        assert cluster.fetch() == {0: 9}

    def test_of_markers_from_the_past_is_refused(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        first = cluster.end_transaction(True, epoch=3, coordinator_epoch=7)
        cluster.run()
        assert first.take() is NONE
        old_epoch = cluster.end_transaction(False, epoch=2, coordinator_epoch=7)
        old_coordinator = cluster.end_transaction(False, epoch=3, coordinator_epoch=6)
        assert old_epoch.take() is ErrorCode.INVALID_PRODUCER_EPOCH
        assert old_coordinator.take() is ErrorCode.TRANSACTION_COORDINATOR_FENCED

    def test_of_markers_needs_the_leader(self) -> None:
        cluster = Cluster()
        cluster.coordinator.resign(0)
        assert end(cluster, committed=True) is ErrorCode.NOT_LEADER_OR_FOLLOWER
        cluster.coordinator.lead(0, cluster.log, 1)
        assert cluster.end_transaction(True).take() is ErrorCode.NOT_LEADER_OR_FOLLOWER

    def test_has_an_outcome_for_each_partition(self) -> None:
        cluster = Cluster()
        outcome = cluster.committed(cluster.commit_transactional({0: 5, 8: 5}))
        assert outcome == [NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert cluster.committed(cluster.commit_transactional({0: 5}, topic="no-topic")) == [
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        ]
        assert cluster.committed(cluster.commit_transactional({1: 5}, metadata="x" * 4_097)) == [
            ErrorCode.OFFSET_METADATA_TOO_LARGE
        ]
        end(cluster, committed=True)
        assert cluster.fetch() == {0: 5}

    def test_needs_the_name_of_a_group(self) -> None:
        cluster = Cluster()
        assert cluster.committed(cluster.commit_transactional({0: 5}, group="")) == [ErrorCode.INVALID_GROUP_ID]


class TestMembers:
    """KIP-447: a consumer that was replaced cannot commit through its producer."""

    def test_of_the_present_generation_commit(self) -> None:
        cluster = Cluster()
        (member,), generation = cluster.stable(1)
        answer = cluster.commit_transactional({0: 5}, member_id=member, generation=generation)
        assert cluster.committed(answer) == [NONE]

    @pytest.mark.parametrize(
        ("member", "step", "code"),
        [
            ("known", -1, ErrorCode.ILLEGAL_GENERATION),
            ("known", 1, ErrorCode.ILLEGAL_GENERATION),
            ("stranger", 0, ErrorCode.UNKNOWN_MEMBER_ID),
            ("", 0, ErrorCode.UNKNOWN_MEMBER_ID),
        ],
    )
    def test_of_no_generation_are_refused(self, member: str, step: int, code: ErrorCode) -> None:
        cluster = Cluster()
        (known,), generation = cluster.stable(1)
        answer = cluster.commit_transactional(
            {0: 5}, member_id=known if member == "known" else member, generation=generation + step
        )
        assert cluster.committed(answer) == [code]
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: -1}

    def test_that_are_static_and_were_replaced_are_fenced(self) -> None:
        cluster = Cluster()
        member = cluster.join(instance="i").take().member_id
        cluster.sync(member, 1, {member: b""}, instance="i")
        replacement = cluster.join(instance="i").take()
        fenced = cluster.commit_transactional({0: 5}, member_id=member, generation=1, instance="i")
        assert cluster.committed(fenced) == [ErrorCode.FENCED_INSTANCE_ID]
        answer = cluster.commit_transactional(
            {0: 5}, member_id=replacement.member_id, generation=replacement.generation_id, instance="i"
        )
        assert cluster.committed(answer) == [NONE]

    def test_of_a_group_that_is_gone_are_refused(self) -> None:
        cluster = Cluster()
        assert cluster.committed(cluster.commit_transactional({0: 5}, member_id="m", generation=3)) == [
            ErrorCode.ILLEGAL_GENERATION
        ]

    def test_that_do_not_say_who_they_are_are_believed(self) -> None:
        cluster = Cluster()
        cluster.stable(1)
        assert cluster.committed(cluster.commit_transactional({0: 5}, version=2)) == [NONE]

    def test_commit_while_the_leader_assigns(self) -> None:
        cluster = Cluster()
        (member,), generation = cluster.joined(1)
        answer = cluster.commit_transactional({0: 5}, member_id=member, generation=generation)
        assert cluster.committed(answer) == [NONE]


class TestVerification:
    def test_comes_before_the_first_offset_only(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        pend(cluster, {1: 5})
        assert cluster.verifier.asked == [("transactional-1", 1, 0, "__consumer_offsets", 0, True)]
        end(cluster, committed=True)
        pend(cluster, {1: 6})
        assert len(cluster.verifier.asked) == 2

    def test_of_another_epoch_is_another(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.end_transaction(False, epoch=1, version=2)
        assert cluster.committed(cluster.commit_transactional({0: 6}, epoch=0)) == [ErrorCode.INVALID_PRODUCER_EPOCH]
        assert cluster.committed(cluster.commit_transactional({0: 7}, epoch=1)) == [NONE]
        assert len(cluster.verifier.asked) == 2
        late = cluster.end_transaction(True, epoch=1, version=2)
        cluster.run()
        assert late.take() is ErrorCode.INVALID_PRODUCER_EPOCH
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: UNSTABLE}

    def test_adds_the_group_for_clients_that_do_not(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit_transactional({0: 5}, version=5))
        assert cluster.verifier.asked == [("transactional-1", 1, 0, "__consumer_offsets", 0, False)]

    @pytest.mark.parametrize(
        ("answer", "version", "code"),
        [
            (ErrorCode.INVALID_TXN_STATE, 3, ErrorCode.INVALID_TXN_STATE),
            (ErrorCode.INVALID_TXN_STATE, 4, ErrorCode.TRANSACTION_ABORTABLE),
            (ErrorCode.INVALID_PRODUCER_EPOCH, 3, ErrorCode.INVALID_PRODUCER_EPOCH),
            (ErrorCode.INVALID_PRODUCER_ID_MAPPING, 5, ErrorCode.INVALID_PRODUCER_ID_MAPPING),
            (ErrorCode.CONCURRENT_TRANSACTIONS, 5, LOADING),
            (ErrorCode.NETWORK_EXCEPTION, 3, LOADING),
            (ErrorCode.NOT_ENOUGH_REPLICAS, 3, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        ],
    )
    def test_that_fails_is_told(self, answer: ErrorCode, version: int, code: ErrorCode) -> None:
        cluster = Cluster()
        cluster.verifier.answers = [answer]
        assert cluster.committed(cluster.commit_transactional({0: 5, 1: 5}, version=version)) == [code, code]
        assert cluster.log.batches == []

    def test_that_the_end_of_the_transaction_overtakes_allows_nothing(self) -> None:
        cluster = Cluster()
        cluster.verifier.hold = True
        late = cluster.commit_transactional({0: 5})
        cluster.run()
        assert end(cluster, committed=False) is NONE
        cluster.verifier.answer()
        assert cluster.committed(late) == [ErrorCode.TRANSACTION_ABORTABLE]
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: -1}

    def test_that_a_failover_overtakes_allows_nothing(self) -> None:
        cluster = Cluster()
        cluster.verifier.hold = True
        late = cluster.commit_transactional({0: 5})
        cluster.run()
        cluster.log.verifications.clear(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        cluster.coordinator.lead(0, cluster.log, 1)
        cluster.run()
        cluster.verifier.answer()
        assert cluster.committed(late) == [ErrorCode.NOT_COORDINATOR]

    def test_of_two_at_once_lets_both_through(self) -> None:
        cluster = Cluster()
        cluster.verifier.hold = True
        answers = [cluster.commit_transactional({0: 5}), cluster.commit_transactional({1: 6})]
        cluster.verifier.answer()
        assert len(cluster.verifier.asked) == 1
        assert [cluster.committed(answer) for answer in answers] == [[NONE], [NONE]]


class TestTheEndOfOffsets:
    def test_a_deleted_groups_do_not_come_back_with_the_commit(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        pend(cluster, {0: 5, 1: 5})
        assert delete_groups(cluster, "g") == {"g": NONE}
        for _ in range(2):
            assert cluster.fetch(partitions=(0, 1), require_stable=True) == {0: -1, 1: -1}
            cluster.restart()
        end(cluster, committed=True)
        assert cluster.fetch() == {}
        cluster.restart()
        assert cluster.fetch() == {}

    def test_a_group_with_nothing_else_is_deleted_too(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        assert delete_groups(cluster, "g") == {"g": NONE}
        end(cluster, committed=True)
        assert delete_groups(cluster, "g") == {"g": ErrorCode.GROUP_ID_NOT_FOUND}

    def test_a_deletion_that_fails_leaves_them(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.log.refusals.append(REFUSED)
        assert delete_groups(cluster, "g") == {"g": ErrorCode.COORDINATOR_NOT_AVAILABLE}
        assert cluster.fetch(partitions=(0,), require_stable=True) == {0: UNSTABLE}
        end(cluster, committed=True)
        assert cluster.fetch() == {0: 5}

    def test_what_comes_after_the_deletion_counts(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5, 1: 5})
        delete_groups(cluster, "g")
        pend(cluster, {1: 6})
        end(cluster, committed=True)
        assert cluster.fetch() == {1: 6}

    def test_deleted_offsets_do_not_come_back(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5, 1: 5})
        assert delete(cluster, 0).take().topics[0].partitions[0].error_code == NONE
        end(cluster, committed=True)
        assert cluster.fetch() == {1: 5}

    def test_those_of_a_deleted_topic_do_not_come_back(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        cluster.committed(cluster.commit({3: 3}, group="other"))
        cluster.coordinator.topic_deleted("jobs")
        cluster.run()
        end(cluster, committed=True)
        assert cluster.fetch() == {}
        assert cluster.fetch("other") == {}

    def test_an_offset_that_is_about_to_be_replaced_does_not_expire(self) -> None:
        cluster = Cluster(offsets_retention_minutes=60)
        cluster.committed(cluster.commit({0: 1, 1: 1}))
        pend(cluster, {0: 5})
        cluster.run(DAY_MS)
        assert cluster.fetch() == {0: 1}
        end(cluster, committed=False)
        cluster.run(DAY_MS)
        assert cluster.fetch() == {}

    def test_a_group_lives_as_long_as_a_transaction_has_offsets_for_it(self) -> None:
        cluster = Cluster(offsets_retention_minutes=60)
        (member,), _ = cluster.stable(1)
        cluster.leave(member)
        pend(cluster, {0: 5})
        cluster.run(DAY_MS)
        assert cluster.generation() == 2
        end(cluster, committed=False)
        cluster.run(DAY_MS)
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert shard.groups == {}

    def test_an_abort_leaves_no_group_behind(self) -> None:
        cluster = Cluster()
        pend(cluster, {0: 5})
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert set(shard.groups) == {"g"}
        end(cluster, committed=False)
        assert shard.groups == {}
