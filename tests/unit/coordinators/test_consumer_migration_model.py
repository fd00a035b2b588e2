"""Random histories of a group whose members speak both protocols: what its records say is never of two minds."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.types import Uuid
from tests.unit.coordinators.consumer_fakes import ConsumerCluster, partitions_of
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.test_consumer_migration import assignment, subscription

CLIENTS = st.integers(0, 3)
INSTANCES = [None, None, "i2", "i3"]


class Client:
    """One process, that speaks one of the protocols and may come back with the other."""

    def __init__(self, number: int) -> None:
        self.number, self.instance = number, INSTANCES[number]
        self.lives = 0
        self.classic = False
        self.begin(classic=number % 2 == 0)

    def begin(self, *, classic: bool) -> None:
        self.lives += 1
        self.classic = classic
        self.member_id = "" if classic else f"m{self.number}-{self.lives}"
        self.epoch = 0
        self.owned: dict[Uuid, set[int]] = {}
        self.joining: Answer | None = None


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = ConsumerCluster()
        self.clients = [Client(number) for number in range(4)]
        self.answers: list[Answer] = []

    # --- the classic protocol

    def _join(self, client: Client, owned: tuple[int, ...] = ()) -> None:
        client.joining = self.cluster.join(
            client.member_id, instance=client.instance, metadata=subscription(*owned), rebalance_timeout_ms=20_000
        )
        self.answers.append(client.joining)

    def _take_join(self, client: Client) -> None:
        if client.joining is None or not client.joining.arrived:
            return
        response = client.joining.take()
        client.joining = None
        if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = response.member_id
            self._join(client)
        elif response.error_code == 0:
            client.member_id, client.epoch = response.member_id, response.generation_id
            shares = {}
            if response.leader == response.member_id:
                for index, member in enumerate(response.members):
                    shares[member.member_id] = assignment(*range(index, 8, len(response.members)))
            self.answers.append(
                self.cluster.sync(client.member_id, client.epoch, shares, instance=client.instance, protocol=None)
            )
        elif response.error_code != ErrorCode.REBALANCE_IN_PROGRESS:
            client.begin(classic=True)

    @rule(number=CLIENTS, owned=st.sampled_from([(), (0,), (0, 1, 2, 3, 4, 5, 6, 7)]))
    def work(self, number: int, owned: tuple[int, ...]) -> None:
        client = self.clients[number]
        if not client.classic:
            self._beat(client)
            return
        self._take_join(client)
        if client.joining is None:
            code = ErrorCode.UNKNOWN_MEMBER_ID
            if client.epoch:
                code = self.cluster.heartbeat(client.member_id, client.epoch, instance=client.instance)
            if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID, ErrorCode.ILLEGAL_GENERATION):
                client.begin(classic=True)
            if code is not ErrorCode.NONE:
                self._join(client, owned)
                self._take_join(client)

    # --- the new one

    def _beat(self, client: Client, **fields: Any) -> None:
        if client.epoch == 0:
            answer = self.cluster.enter(client.member_id, instance_id=client.instance, rebalance_timeout_ms=20_000)
        else:
            answer = self.cluster.beat(
                client.member_id, client.epoch, owned=client.owned, instance_id=client.instance, **fields
            )
        if answer.error_code in (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.UNRELEASED_INSTANCE_ID):
            return
        if answer.error_code:
            client.epoch, client.owned = 0, {}
            return
        client.epoch = answer.member_epoch
        given = partitions_of(answer)
        client.owned = client.owned if given is None else given

    # --- what happens to them

    @rule(number=CLIENTS, classic=st.booleans())
    def another_process_takes_its_place(self, number: int, classic: bool) -> None:
        self.clients[number].begin(classic=classic)

    @rule(number=CLIENTS, classic=st.booleans())
    def leave_and_come_back(self, number: int, classic: bool) -> None:
        client = self.clients[number]
        if client.epoch > 0:
            if client.classic:
                self.cluster.leave(client.member_id)
            else:
                self.cluster.beat(client.member_id, -1, instance_id=client.instance)
        client.begin(classic=classic)

    @rule(duration_ms=st.sampled_from([1, 3_000, 11_000, 21_000, 46_000]))
    def time_passes(self, duration_ms: int) -> None:
        self.cluster.run(duration_ms)

    @rule(failures=st.integers(1, 2))
    def an_append_fails(self, failures: int) -> None:
        self.cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)] * failures

    @precondition(lambda self: not self.cluster.log.refusals)
    @rule()
    def the_coordinator_moves(self) -> None:
        self.cluster.epoch += 1
        self.cluster.coordinator.lead(0, self.cluster.log, self.cluster.epoch)
        self.cluster.run()
        assert all(answer.arrived for answer in self.answers)

    # --- what must hold

    @invariant()
    def the_group_is_of_one_kind_and_gives_nothing_to_two(self) -> None:
        (shard,) = self.cluster.coordinator.runtime.active_shards()
        group = shard.consumers.get("g")
        assert group is None or "g" not in shard.groups
        if group is None:
            return
        owners: dict[tuple[Uuid, int], str] = {}
        for member in group.members.values():
            assert member.epoch <= group.epoch
            for owned in (member.assigned, member.pending_revocation):
                for topic_id, epochs in owned.items():
                    for index in epochs:
                        assert owners.setdefault((topic_id, index), member.member_id) == member.member_id
        assert {
            (topic_id, index): one for topic_id, part in group.owners.items() for index, one in part.items()
        } == owners

    def teardown(self) -> None:
        """All of them silent: every call is answered, and what is in the log is what was."""
        self.cluster.log.refusals = []
        self.cluster.run(10 * 60_000)
        assert all(answer.arrived for answer in self.answers), "a response was lost"
        before = self._state()
        self.cluster.restart()
        assert self._state() == before

    def _state(self) -> dict[str, Any]:
        (shard,) = self.cluster.coordinator.runtime.active_shards()
        group = shard.consumers.get("g")
        assert group is None or not group.members
        classic = {name: (one.state, one.generation_id, one.written) for name, one in shard.groups.items()}
        return {**classic, "consumer": None if group is None else (group.epoch, group.target_epoch, group.targets)}


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
