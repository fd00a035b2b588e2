"""Random histories of one consumer group: members come, go, crash, stall and miss answers; appends fail, topics change
and the coordinator moves. No partition ever has two owners, whatever is answered is in the log, and the group settles.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ottla.coordinators.groups.consumer.group import ConsumerGroup
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from ottla.protocol.messages.consumer_group_heartbeat_request import ConsumerGroupHeartbeatRequest
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, Partitions, lists, partitions_of
from tests.unit.coordinators.coordinator_fakes import Answer

CLIENTS = st.integers(0, 4)
SESSION_MS = 45_000
REBALANCE_MS = 20_000
FENCING = {
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
}


class Client:
    """What a client knows. It reads `owned` as long as it has not given it up, or is known to be dead."""

    def __init__(self, number: int, instance: str | None) -> None:
        self.number, self.instance = number, instance
        self.lives = 0
        self.topics: list[str] = ["jobs"]
        self.epoch = 0
        self.owned: Partitions = {}
        self.told: Partitions | None = None
        """What it last said that it owns; None when the next heartbeat must say everything."""
        self.heard_ms = 0.0
        """When it last heard of its coordinator: it stops by itself when its session must be over."""
        self.asked_since_ms: float | None = None
        """Since when it has had to give something up."""
        self.begin()

    def begin(self) -> None:
        """A new process."""
        self.lives += 1
        self.member_id = f"m{self.number}-{self.lives}"
        self.forget()

    def forget(self) -> None:
        self.epoch, self.owned, self.told = 0, {}, None
        self.to_give_up: Partitions = {}


def places(partitions: Partitions) -> set[tuple[Uuid, int]]:
    return {(topic_id, index) for topic_id, part in partitions.items() for index in part}


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = ConsumerCluster(consumer_session_timeout_ms=SESSION_MS)
        self.cluster.topics.create("other", 3)
        self.clients = [Client(0, None), Client(1, None), Client(2, None), Client(3, "i3"), Client(4, "i4")]
        self.answers: list[Answer] = []

    # --- what clients do

    def _send(self, client: Client, **fields: Any) -> Any:
        full = client.told is None or client.epoch == 0
        request = ConsumerGroupHeartbeatRequest(
            group_id="g",
            member_id=client.member_id,
            member_epoch=client.epoch,
            instance_id=client.instance,
            topic_partitions=lists(self._reads(client)),
            rebalance_timeout_ms=REBALANCE_MS if full else -1,
            subscribed_topic_names=client.topics if full else None,
            **fields,
        )
        answer = self.cluster.send(request)
        self.answers.append(answer)
        self.cluster.run()
        return answer.take()

    def _reads(self, client: Client) -> Partitions:
        both = places(client.owned) | places(client.to_give_up)
        together: Partitions = {}
        for topic_id, index in both:
            together.setdefault(topic_id, set()).add(index)
        return together

    @rule(number=CLIENTS, lost=st.sampled_from([False, False, False, True]))
    def heartbeat(self, number: int, lost: bool) -> None:
        client = self.clients[number]
        answer = self._send(client)
        if lost:
            client.told = None  # as clients do: after an error they say everything
            return
        self._take(client, answer)

    def _take(self, client: Client, answer: Any) -> None:
        code = ErrorCode(answer.error_code)
        if code in FENCING:
            client.forget()  # the partitions are lost
            return
        if code is not ErrorCode.NONE:
            client.told = None
            return
        client.epoch, client.told = answer.member_epoch, self._reads(client)
        client.heard_ms = self.cluster.clock.monotonic_ms()
        given = partitions_of(answer)
        if given is not None:
            going = places(self._reads(client)) - places(given)
            client.to_give_up = {}
            for topic_id, index in going:
                client.to_give_up.setdefault(topic_id, set()).add(index)
            client.owned = given

    @rule(number=CLIENTS)
    def give_up(self, number: int) -> None:
        """The revocation's callback is done."""
        self.clients[number].to_give_up = {}

    @rule(number=CLIENTS, topics=st.sampled_from([["jobs"], ["jobs", "other"], ["other"], ["nowhere"], []]))
    def subscribe(self, number: int, topics: list[str]) -> None:
        self.clients[number].topics = topics
        self.clients[number].told = None

    @rule(number=CLIENTS)
    def leave(self, number: int) -> None:
        client = self.clients[number]
        if client.epoch > 0:
            client.owned, client.to_give_up = {}, {}
            client.epoch = -1
            answer = self._send(client)
            if answer.error_code in FENCING or answer.error_code == 0:
                client.begin()
            else:
                client.forget()

    @rule(number=st.integers(3, 4))
    def static_member_goes_for_a_while(self, number: int) -> None:
        client = self.clients[number]
        if client.epoch > 0:
            client.owned, client.to_give_up = {}, {}
            client.epoch = -2
            self._send(client)
            client.begin()

    @rule(number=CLIENTS)
    def crash(self, number: int) -> None:
        self.clients[number].begin()

    @rule(numbers=st.lists(CLIENTS, min_size=1, max_size=12))
    def several_work(self, numbers: list[int]) -> None:
        for number in numbers:
            self.give_up(number)
            self.heartbeat(number, False)

    @rule(member=st.sampled_from(["", "stranger", "m0-1", "m3-1"]), epoch=st.integers(-3, 6))
    def lie(self, member: str, epoch: int) -> None:
        """A stranger, or an old life, that claims to own nothing. It is not to join: that would be a member."""
        if epoch != 0 and member not in {client.member_id for client in self.clients}:
            answer = self.cluster.beat(member, epoch, owned={})
            assert answer.error_code != 0 or member.startswith("m"), "a former life may still be a member"

    @rule(number=CLIENTS, difference=st.integers(-3, 3))
    def lie_about_the_epoch(self, number: int, difference: int) -> None:
        """An old message, or a confused client, that claims to own nothing: it must not free a partition."""
        client = self.clients[number]
        group = self._group()
        member = group.members.get(client.member_id) if group is not None else None
        epoch = member.epoch + difference if member is not None else 0
        if member is not None and epoch > 0 and epoch not in (member.epoch, member.previous_epoch):
            answer = self.cluster.beat(client.member_id, epoch, owned={}, instance_id=client.instance)
            assert answer.error_code == ErrorCode.FENCED_MEMBER_EPOCH

    # --- what happens to them

    @rule(duration_ms=st.sampled_from([1, 2_000, 9_000, 19_000, 30_000]))
    def time_passes(self, duration_ms: int) -> None:
        """Clients that were put out, or must think so, do not read on: they know both timeouts."""
        self.cluster.run(duration_ms)
        group = self._group()
        for client in self.clients:
            member = group.members.get(client.member_id) if group is not None else None
            if member is None:
                client.owned, client.to_give_up, client.told = {}, {}, None

    @rule(count=st.integers(1, 12))
    def topic_grows(self, count: int) -> None:
        counts = self.cluster.topics.counts
        counts["jobs"] = max(counts["jobs"], count)
        self.cluster.coordinator.topics_changed()

    @rule()
    def topic_is_made_anew(self) -> None:
        self.cluster.topics.create("other", 2)
        self.cluster.coordinator.topics_changed()

    @rule(failures=st.integers(1, 2))
    def an_append_fails(self, failures: int) -> None:
        self.cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)] * failures

    @precondition(lambda self: not self.cluster.log.refusals)
    @rule(connection=st.integers(0, 3))
    def the_next_calls_come_on(self, connection: int) -> None:
        self.cluster.connection = connection

    @rule(connection=st.integers(1, 3))
    def a_connection_closes(self, connection: int) -> None:
        self.cluster.close(connection)

    @rule()
    def the_coordinator_moves(self) -> None:
        self.cluster.epoch += 1
        self.cluster.coordinator.lead(0, self.cluster.log, self.cluster.epoch)
        self.cluster.run()
        assert all(answer.arrived for answer in self.answers)

    # --- what must hold

    def _group(self) -> Any:
        (shard,) = self.cluster.coordinator.runtime.active_shards()
        return shard.consumers.get("g")

    @invariant()
    def no_partition_is_read_by_two(self) -> None:
        readers: dict[tuple[Uuid, int], str] = {}
        for client in self.clients:
            for place in places(self._reads(client)):
                assert readers.setdefault(place, client.member_id) == client.member_id, f"{place} is read by two"

    @invariant()
    def the_group_is_consistent(self) -> None:
        group = self._group()
        if group is None:
            return
        owners: dict[tuple[Uuid, int], str] = {}
        for member in group.members.values():
            assert member.epoch <= group.target_epoch <= group.epoch
            for owned in (member.assigned, member.pending_revocation):
                for topic_id, epochs in owned.items():
                    assert epochs
                    for index, since in epochs.items():
                        assert since <= group.epoch
                        assert owners.setdefault((topic_id, index), member.member_id) == member.member_id
                        assert group.owners[topic_id][index] == member.member_id
        assert sum(map(len, group.owners.values())) == len(owners)
        assert group.static_members == {
            one.instance_id: one.member_id for one in group.members.values() if one.instance_id is not None
        }
        if group.epoch == group.target_epoch:
            assert group.targets.keys() == group.members.keys()
            given = [
                place
                for member_id in group.targets
                for place in places({topic: set(part) for topic, part in group.target(member_id).items()})
            ]
            assert len(given) == len(set(given)), "a target for two"

    def teardown(self) -> None:
        """Whoever is left works on: all is answered, the group settles, and the log has it all."""
        self.cluster.log.refusals = []
        for client in self.clients:
            client.topics, client.told = ["jobs"], None
        for _ in range(12):
            for client in self.clients:
                client.to_give_up = {}
                self._take(client, self._send(client))
            self.cluster.run(5_000)
            self.no_partition_is_read_by_two()
        # Static members whose place is taken by a former life get it when that life's session is over.
        for _ in range(12):
            for client in self.clients:
                client.to_give_up = {}
                self._take(client, self._send(client))
            self.cluster.run(5_000)
        group = self._group()
        assert group.state == "Stable"
        assert set(group.members) == {client.member_id for client in self.clients}
        sizes = [len(places(client.owned)) for client in self.clients]
        assert sum(sizes) == self.cluster.topics.counts["jobs"]
        assert max(sizes) - min(sizes) <= 1
        assert all(answer.arrived for answer in self.answers), "a response was lost"
        live = self._state()
        self.cluster.restart()
        assert self._state() == live, "what was replayed at work and on loading differs"

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = vars(self._group()).copy()
        for volatile in ("metadata_checked", "changed_ms"):
            state.pop(volatile)
        return state


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_histories_convict_a_coordinator_that_gives_partitions_out_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before their former owners have given them up: the seam for this bug."""
    monkeypatch.setattr(ConsumerGroup, "is_free", lambda *_: True)
    quick = settings(
        max_examples=100,
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Histories, settings=quick)
