"""Random histories of one group: clients come, go, stall and lie; appends fail and the coordinator moves."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ottla.coordinators.groups.state import GroupState
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.group_metadata_value import GroupMetadataValue
from tests.unit.coordinators.coordinator_fakes import Answer
from tests.unit.coordinators.group_cluster import Cluster

CLIENTS = st.integers(0, 4)
SESSION_MS = 10_000
REBALANCE_MS = 15_000


class Client:
    """What a client remembers."""

    def __init__(self, instance: str | None) -> None:
        self.instance = instance
        self.member_id = ""
        self.generation = -1
        self.leads: list[str] | None = None  # the members to assign to, in this generation
        self.joining: Answer | None = None
        self.syncing: Answer | None = None


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(session_timeout_ms=SESSION_MS)
        self.clients = [Client(None), Client(None), Client(None), Client("i3"), Client("i4")]
        self.answers: list[Answer] = []
        self.moves = 0
        self.leaders: dict[tuple[int, int, int], str] = {}
        """By generation. After a move or a failed append its number may be given out again, so they count too."""
        self.offsets: dict[int, int] = {}
        self.count = 0

    # --- what clients do

    @rule(number=CLIENTS, preference=st.sampled_from([("a", "b"), ("b", "a"), ("a",)]))
    def join(self, number: int, preference: tuple[str, ...]) -> None:
        client = self.clients[number]
        client.joining = self._keep(
            self.cluster.join(
                client.member_id, instance=client.instance, protocols=preference, rebalance_timeout_ms=REBALANCE_MS
            )
        )
        client.syncing = None
        self._look()

    @rule(order=st.permutations(range(5)))
    def all_join(self, order: list[int]) -> None:
        """As clients do in a rebalance; new ones come back with the id that they get."""
        for number in order:
            self.join(number, ("a", "b"))
            if self.clients[number].member_id and self.clients[number].joining is None:
                self.join(number, ("a", "b"))

    @rule(numbers=st.lists(CLIENTS, unique=True))
    def several_sync(self, numbers: list[int]) -> None:
        for number in numbers:
            self.sync(number)

    @rule(number=CLIENTS)
    def forget_its_id_and_join(self, number: int) -> None:
        """A process that starts again."""
        self.clients[number].member_id = ""
        self.join(number, ("a", "b"))

    @rule(number=CLIENTS)
    def sync(self, number: int) -> None:
        client = self.clients[number]
        if client.generation < 0:
            return
        assignments = {}
        for member_id in client.leads or ():
            self.count += 1
            assignments[member_id] = f"{client.generation}-{member_id}-{self.count}".encode()
        client.syncing = self._keep(
            self.cluster.sync(client.member_id, client.generation, assignments, instance=client.instance, protocol=None)
        )
        self._look()

    @rule(number=CLIENTS)
    def heartbeat(self, number: int) -> None:
        client = self.clients[number]
        self.cluster.heartbeat(client.member_id, client.generation, instance=client.instance)
        self._look()

    @rule(number=CLIENTS)
    def leave(self, number: int) -> None:
        client = self.clients[number]
        if client.member_id:
            self.cluster.leave(client.member_id)
            client.member_id, client.generation = "", -1
            self._look()

    @rule(number=CLIENTS, partition=st.integers(0, 7))
    def commit(self, number: int, partition: int) -> None:
        client = self.clients[number]
        self.count += 1
        answer = self._keep(
            self.cluster.commit(
                {partition: self.count},
                member_id=client.member_id,
                generation=client.generation,
                instance=client.instance,
            )
        )
        (code,) = self.cluster.committed(answer)
        if code is ErrorCode.NONE:
            self.offsets[partition] = self.count
        self._look()

    @rule(number=CLIENTS, member=st.sampled_from(["", "stranger"]), generation=st.integers(-2, 5))
    def lie(self, number: int, member: str, generation: int) -> None:
        instance = self.clients[number].instance
        self._keep(self.cluster.sync(member, generation, {member: b"lie"}, instance=instance, protocol=None))
        self.cluster.heartbeat(member, generation, instance=instance)
        self._look()

    # --- what happens to them

    @rule(duration_ms=st.sampled_from([1, 3_000, 5_000, 9_000, 16_000]))
    def time_passes(self, duration_ms: int) -> None:
        self.cluster.run(duration_ms)
        self._look()

    @rule(connection=st.integers(0, 3))
    def the_next_calls_come_on(self, connection: int) -> None:
        self.cluster.connection = connection

    @rule(connection=st.integers(1, 3))
    def a_connection_closes(self, connection: int) -> None:
        self.cluster.close(connection)

    @rule()
    def an_append_fails(self) -> None:
        self.cluster.log.refusals = [ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)]

    @precondition(lambda self: not self.cluster.log.refusals)
    @rule()
    def the_coordinator_moves(self) -> None:
        """In order: all who wait are told."""
        self.moves += 1
        self.cluster.epoch += 1
        self.cluster.coordinator.lead(0, self.cluster.log, self.cluster.epoch)
        self.cluster.run()
        assert all(answer.arrived for answer in self.answers)
        self._look()

    # --- what must hold

    def _keep(self, answer: Answer) -> Answer:
        self.answers.append(answer)
        return answer

    def _look(self) -> None:
        """Clients take the answers that have arrived."""
        for client in self.clients:
            if client.joining is not None and client.joining.arrived:
                self._take_join(client, client.joining)
                client.joining = None
            if client.syncing is not None and client.syncing.arrived:
                self._take_sync(client, client.syncing.take())
                client.syncing = None

    def _take_join(self, client: Client, answer: Answer) -> None:
        response = answer.take()
        client.leads = None
        if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id, client.generation = response.member_id, -1
        elif response.error_code == ErrorCode.NONE:
            client.member_id, client.generation = response.member_id, response.generation_id
            if response.leader == response.member_id and not response.skip_assignment:
                client.leads = [member.member_id for member in response.members]
                assert client.member_id in client.leads
                key = (self.moves, answer.refused_before, client.generation)
                assert self.leaders.setdefault(key, client.member_id) == client.member_id, "two leaders"
        elif response.error_code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            client.member_id, client.generation = "", -1

    def _take_sync(self, client: Client, response: Any) -> None:
        if response.error_code == ErrorCode.NONE and response.assignment:
            name = response.assignment.decode()
            instance = client.instance
            # A static member takes over what its former self was given.
            owner = name.split("-", 1)[1].rsplit("-", 1)[0]
            assert owner == client.member_id or (instance is not None and owner.startswith(instance)), name
            assert name.startswith(f"{client.generation}-")

    @invariant()
    def the_group_is_consistent(self) -> None:
        for shard in self.cluster.coordinator.runtime.active_shards():
            for group in shard.groups.values():
                members = group.members
                assert group.pending_sync <= set(members)
                assert set(group.static_members.values()) == {
                    member.member_id for member in members.values() if member.group_instance_id is not None
                }
                if members:
                    assert group.leader_id in members
                assert (group.state is GroupState.EMPTY) == (not members) or group.is_in(GroupState.PREPARING_REBALANCE)
                if group.is_in(GroupState.STABLE):
                    assert not any(member.awaiting_join or member.awaiting_sync for member in members.values())
                if group.is_in(GroupState.COMPLETING_REBALANCE):
                    assert group.leader_id is not None
                    assert members[group.leader_id].awaiting_sync is None, "the leader's call ends the phase"
                if group.is_in(GroupState.PREPARING_REBALANCE):
                    assert not group.all_members_joined, "nobody is waited for"

    @invariant()
    def committed_offsets_are_exactly_those_that_were_acknowledged(self) -> None:
        if not self.cluster.log.refusals:
            assert self.cluster.fetch() == self.offsets

    def teardown(self) -> None:
        """Everybody falls silent: each call is answered, and the group settles."""
        self.cluster.log.refusals = []
        self.cluster.run(30 * 60_000)
        assert all(answer.arrived for answer in self.answers), "a response was lost"
        for shard in self.cluster.coordinator.runtime.active_shards():
            for group in shard.groups.values():
                assert group.state is GroupState.EMPTY
                assert not group.pending_join
        self._generations_rise()
        live = self._groups()
        self.cluster.restart()
        assert self._groups() == live, "what was replayed at work and on loading differs"
        assert self.cluster.fetch() == self.offsets

    def _groups(self) -> dict[str, Any]:
        (shard,) = self.cluster.coordinator.runtime.active_shards()
        return {name: (group.state, group.generation_id, group.written) for name, group in shard.groups.items()}

    def _generations_rise(self) -> None:
        last = 0
        for record in self.cluster.log.records():
            if record.key is not None and record.key[:2] == b"\x00\x02" and record.value is not None:
                value, _ = GroupMetadataValue.decode(record.value, 3, 2)
                assert value.generation >= last
                last = value.generation


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
