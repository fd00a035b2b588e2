"""The runtime: when replies leave, what a failed append takes back, how shards come and go."""

import pytest

from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.records import GroupRecordCodec
from ottla.coordinators.groups.state import GroupState
from ottla.coordinators.runtime.host import HostState
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.list_groups_request import ListGroupsRequest
from ottla.records.batch import Record, encode_batch, validate
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.fake_log import FakeLog
from tests.unit.coordinators.group_cluster import Cluster

REFUSED = ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)


class TestReplies:
    def test_leave_when_the_records_are_committed(self) -> None:
        cluster = Cluster(auto_commit=False)
        answer = cluster.commit({0: 1})
        cluster.run(1_000)
        assert cluster.log.log_end_offset == 1
        assert not answer.arrived
        cluster.log.commit()
        assert answer.arrived

    def test_that_need_no_record_wait_for_what_they_may_have_seen(self) -> None:
        cluster = Cluster(auto_commit=False)
        (member,), generation = cluster.joined(1)
        synced = cluster.sync(member, generation, {member: b"all"})
        again = cluster.sync(member, generation)
        assert not synced.arrived
        assert not again.arrived
        cluster.log.commit()
        assert synced.take().assignment == again.take().assignment == b"all"

    def test_leave_at_once_when_nothing_is_under_way(self) -> None:
        cluster = Cluster(auto_commit=False)
        assert cluster.join().code == ErrorCode.MEMBER_ID_REQUIRED

    def test_that_wait_too_long_become_errors_and_the_state_stays(self) -> None:
        cluster = Cluster(auto_commit=False)
        answer = cluster.commit({0: 1})
        cluster.run(5_001)
        assert cluster.committed(answer) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        cluster.log.commit()
        assert cluster.fetch() == {0: 1}

    def test_of_one_turn_share_one_batch(self) -> None:
        cluster = Cluster()
        answers = [cluster.commit({0: number}, group=f"g{number}") for number in range(100)]
        cluster.run()
        assert len(cluster.log.batches) == 1
        assert validate(cluster.log.batches[0]).record_count == 100
        assert all(cluster.committed(answer) == [ErrorCode.NONE] for answer in answers)

    def test_of_a_large_turn_are_spread_over_several_batches(self) -> None:
        cluster = Cluster()
        answers = [cluster.commit({0: number}, group=f"g{number}", metadata="x" * 4_000) for number in range(300)]
        cluster.run()
        assert len(cluster.log.batches) == 3
        assert all(cluster.committed(answer) == [ErrorCode.NONE] for answer in answers)


class TestFailedAppends:
    def test_leave_the_offsets_as_they_were(self) -> None:
        cluster = Cluster()
        cluster.commit({0: 1, 1: 1})
        cluster.run()
        cluster.log.refusals.append(REFUSED)
        answers = [cluster.commit({0: 2}), cluster.commit({0: 3, 2: 3}), cluster.commit({5: 5}, group="other")]
        for answer in answers:
            assert set(cluster.committed(answer)) == {ErrorCode.COORDINATOR_NOT_AVAILABLE}
        assert cluster.fetch() == {0: 1, 1: 1}
        assert cluster.fetch("other") == {}
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert set(shard.groups) == {"g"}

    def test_do_not_hinder_the_next(self) -> None:
        cluster = Cluster()
        cluster.log.refusals.append(REFUSED)
        cluster.committed(cluster.commit({0: 2}))
        assert cluster.committed(cluster.commit({0: 3})) == [ErrorCode.NONE]
        assert cluster.fetch() == {0: 3}

    def test_say_that_a_commit_is_too_large(self) -> None:
        cluster = Cluster()
        cluster.log.refusals.append(ApiError(ErrorCode.MESSAGE_TOO_LARGE))
        assert cluster.committed(cluster.commit({0: 2})) == [ErrorCode.INVALID_COMMIT_OFFSET_SIZE]

    def test_of_an_assignment_give_the_group_its_former_generation_back(self) -> None:
        cluster = Cluster()
        (leader, follower), generation = cluster.stable(2)
        first, second = cluster.join(leader), cluster.join(follower)
        assert first.take().generation_id == second.take().generation_id == generation + 1
        waiting = cluster.sync(follower, generation + 1)
        cluster.log.refusals.append(REFUSED)
        refused = cluster.sync(leader, generation + 1, {leader: b"new", follower: b"new"})

        assert refused.code == waiting.code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert (cluster.group().state, cluster.generation()) == (GroupState.STABLE, generation)
        assert cluster.heartbeat(follower, generation + 1) == ErrorCode.ILLEGAL_GENERATION
        first, second = cluster.join(leader), cluster.join(follower)
        assert first.take().generation_id == second.take().generation_id == generation + 1
        led = cluster.sync(leader, generation + 1, {leader: b"1", follower: b"2"})
        assert led.take().assignment == b"1"
        assert cluster.sync(follower, generation + 1).take().assignment == b"2"

    def test_of_the_first_assignment_forget_the_group(self) -> None:
        cluster = Cluster()
        (member,), generation = cluster.joined(1)
        cluster.log.refusals.append(REFUSED)
        refused = cluster.sync(member, generation, {member: b"1"})
        assert refused.code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert cluster.heartbeat(member, generation) == ErrorCode.UNKNOWN_MEMBER_ID
        assert cluster.join_new()[1].code == ErrorCode.NONE

    def test_arm_the_sessions_of_the_former_generation(self) -> None:
        cluster = Cluster(session_timeout_ms=10_000)
        (member,), generation = cluster.stable(1)
        cluster.join(member)
        cluster.log.refusals.append(REFUSED)
        cluster.sync(member, generation + 1, {member: b"1"})
        cluster.run(10_000)
        assert cluster.group().state is GroupState.EMPTY

    def test_fail_the_operation_whose_records_no_longer_fit_too(self) -> None:
        cluster = Cluster()
        cluster.log.refusals.append(REFUSED)
        answers = [cluster.commit({0: number}, group="g", metadata="x" * 4_000) for number in range(200)]
        cluster.run()
        codes = [cluster.committed(answer)[0] for answer in answers]
        failed = codes.count(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        assert 100 < failed < 200
        assert codes == [ErrorCode.COORDINATOR_NOT_AVAILABLE] * failed + [ErrorCode.NONE] * (200 - failed)
        assert cluster.fetch() == {0: 199}

    def test_after_the_append_keep_the_state_when_the_records_may_yet_be_committed(self) -> None:
        cluster = Cluster(auto_commit=False)
        answer = cluster.commit({0: 1})
        cluster.run()
        cluster.log.fail_waiting(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        assert cluster.committed(answer) == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        cluster.log.commit()
        assert cluster.fetch() == {0: 1}

    def test_after_the_append_end_the_shard_when_the_log_is_broken(self) -> None:
        cluster = Cluster(auto_commit=False)
        answer = cluster.commit({0: 1})
        cluster.run()
        cluster.log.fail_waiting(ErrorCode.KAFKA_STORAGE_ERROR)
        assert cluster.committed(answer) == [ErrorCode.NOT_COORDINATOR]
        assert cluster.coordinator.runtime.state(0) is HostState.FAILED
        assert cluster.join().code == ErrorCode.NOT_COORDINATOR


class TestLeadership:
    def test_is_needed(self) -> None:
        cluster = Cluster()
        cluster.coordinator.resign(0)
        assert cluster.join().code == ErrorCode.NOT_COORDINATOR
        assert cluster.committed(cluster.commit({0: 1})) == [ErrorCode.NOT_COORDINATOR]
        assert cluster.heartbeat("m", 1) == ErrorCode.NOT_COORDINATOR

    def test_that_ends_sends_all_who_wait_away(self) -> None:
        cluster = Cluster(auto_commit=False)
        (_, follower), generation = cluster.joined(2)
        syncing = cluster.sync(follower, generation)
        cluster.joined(1, group="other")
        joining = cluster.join_new(group="other")[1]
        written = cluster.commit({0: 1}, group="third")
        cluster.run()
        unwritten = cluster.commit({0: 2}, group="third")
        cluster.coordinator.resign(0)
        assert syncing.code == joining.code == ErrorCode.NOT_COORDINATOR
        assert cluster.committed(written) == cluster.committed(unwritten) == [ErrorCode.NOT_COORDINATOR]
        records = cluster.log.log_end_offset
        cluster.run(3_600_000)
        assert cluster.log.log_end_offset == records, "no timer is left"

    def test_that_comes_back_reads_the_log_again(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        cluster.coordinator.resign(0)
        cluster.coordinator.lead(0, cluster.log, 1)
        cluster.run()
        assert cluster.fetch() == {0: 1}

    def test_of_a_known_epoch_changes_nothing(self) -> None:
        cluster = Cluster()
        member, _ = cluster.join_new()
        cluster.coordinator.lead(0, cluster.log, 0)
        assert member in cluster.group().members

    def test_of_a_leader_that_was_sent_aside_and_is_back_loads_its_shard_again(self) -> None:
        cluster = Cluster(auto_commit=False)
        answer = cluster.commit({0: 1})
        cluster.run()
        cluster.log.fail_waiting(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        assert cluster.committed(answer) == [ErrorCode.NOT_COORDINATOR]
        cluster.log.commit()
        cluster.coordinator.lead(0, cluster.log, 0)
        cluster.run()
        assert cluster.fetch() == {0: 1}

    def test_of_another_log_starts_afresh_whatever_its_epoch(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        cluster.coordinator.lead(0, cluster.log, 5)
        cluster.run()
        for epoch in (5, 0):
            log = FakeLog(cluster.clock)
            cluster.coordinator.lead(0, log, epoch)
            cluster.run()
            assert cluster.fetch() == {}
            assert cluster.committed(cluster.commit({0: epoch})) == [ErrorCode.NONE]
            assert log.log_end_offset == 1

    def test_of_a_newer_epoch_starts_afresh(self) -> None:
        cluster = Cluster()
        (member,), _ = cluster.stable(1)
        waiting = cluster.join_new()[1]
        cluster.coordinator.lead(0, cluster.log, 1)
        assert waiting.code == ErrorCode.NOT_COORDINATOR
        cluster.run()
        assert set(cluster.group().members) == {member}

    def test_begins_with_loading(self) -> None:
        cluster = Cluster()
        (member,), generation = cluster.stable(1)
        cluster.coordinator.resign(0)
        cluster.coordinator.lead(0, cluster.log, 1)
        listed = Answer()
        committing = cluster.commit({0: 1}, member_id=member, generation=generation)
        cluster.coordinator.list_groups(ListGroupsRequest(), Caller("c", "/", 5), listed)
        assert committing.take().topics[0].partitions[0].error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        assert listed.code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


class TestLoading:
    def test_goes_on_in_slices_while_time_is_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cluster = Cluster()
        for number in range(2_000):
            cluster.commit({number % 8: number}, group=f"g{number % 200}")
        cluster.run()
        cluster.coordinator.resign(0)
        clock = cluster.clock
        # Each look at the clock costs a quarter of a slice.
        spent = [0.0]

        def monotonic_ms() -> float:
            spent[0] += 0.25
            return spent[0]

        turns = [0]

        def other_work() -> None:
            turns[0] += 1
            if cluster.coordinator.runtime.state(0) is HostState.LOADING:
                clock.call_soon(other_work)

        monkeypatch.setattr(clock, "monotonic_ms", monotonic_ms)
        cluster.coordinator.lead(0, cluster.log, 1)
        clock.call_soon(other_work)
        cluster.run(1)
        monkeypatch.undo()
        assert cluster.coordinator.runtime.state(0) is HostState.ACTIVE
        assert turns[0] > 20
        (shard,) = cluster.coordinator.runtime.active_shards()
        assert shard.offsets.count == 200

    def test_reads_the_log_in_parts(self) -> None:
        cluster = Cluster()
        for number in range(50):
            cluster.committed(cluster.commit({number % 8: number}))
        cluster.log.read_bytes = 300
        before = cluster.fetch()
        cluster.coordinator.resign(0)
        cluster.coordinator.lead(0, cluster.log, 1)
        cluster.run()
        assert cluster.fetch() == before

    def test_passes_over_kinds_of_records_that_are_not_known(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        unknown = encode_batch([Record(0, 0, b"\x00\x63abc", b"\x00\x00", ())], base_offset=1)
        cluster.log.batches.append(unknown)
        cluster.log.log_end_offset = cluster.log.high_watermark = 2
        cluster.restart()
        assert cluster.fetch() == {0: 1}
        assert cluster.committed(cluster.commit({0: 2})) == [ErrorCode.NONE]

    def test_passes_over_control_batches_that_end_no_transaction(self) -> None:
        cluster = Cluster()
        leader_change = Record(0, 0, b"\0\0\0\2", b"\0\0", ())
        cluster.log.batches.append(encode_batch([leader_change], is_control=True))
        cluster.log.log_end_offset = cluster.log.high_watermark = 1
        cluster.restart()
        assert cluster.coordinator.runtime.state(0) is HostState.ACTIVE

    def test_stops_at_a_broken_record(self) -> None:
        cluster = Cluster()
        cluster.log.batches.append(encode_batch([Record(0, 0, b"\x00\x01\x00", b"\x00\x04", ())]))
        cluster.log.log_end_offset = cluster.log.high_watermark = 1
        cluster.restart()
        assert cluster.coordinator.runtime.state(0) is HostState.FAILED
        assert cluster.join().code == ErrorCode.NOT_COORDINATOR

    def test_shows_nothing_before_all_that_was_loaded_is_committed(self) -> None:
        cluster = Cluster()
        cluster.committed(cluster.commit({0: 1}))
        cluster.log.high_watermark = 0
        cluster.coordinator.resign(0)
        cluster.coordinator.lead(0, cluster.log, 1)
        cluster.run()
        answer = cluster.join()
        assert not answer.arrived
        cluster.log.commit()
        assert answer.code == ErrorCode.MEMBER_ID_REQUIRED


def test_a_defect_costs_one_answer_and_a_fresh_load(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.committed(cluster.commit({0: 1}))
    events: list[str] = []
    (host,) = cluster.coordinator.runtime._hosts.values()
    monkeypatch.setattr(host, "_report", lambda event, **fields: events.append(event))
    answer = Answer()

    def broken(shard: object, effects: object) -> None:
        raise ZeroDivisionError

    cluster.coordinator.runtime.execute(0, answer, broken)
    assert answer.take().code is ErrorCode.UNKNOWN_SERVER_ERROR
    assert events == ["coordinator_operation_failed"]
    cluster.run()
    assert cluster.fetch() == {0: 1}


def test_records_have_the_form_that_kafka_gives_them() -> None:
    cluster = Cluster()
    (member,), generation = cluster.stable(1, metadata=b"topics")
    cluster.committed(cluster.commit({3: 9}, member_id=member, generation=generation))
    group, offset = cluster.log.records()
    assert group.key == b"\x00\x02\x00\x01g"
    assert group.value is not None
    assert group.value[:2] == b"\x00\x03"
    assert offset.key == b"\x00\x01\x00\x01g\x00\x04jobs\x00\x00\x00\x03"
    assert offset.value is not None
    assert offset.value[:2] == b"\x00\x04"
    decoded = GroupRecordCodec().decode(group.key, group.value)
    assert decoded is not None
    assert GroupRecordCodec().encode(decoded) == (group.key, group.value)
