"""A learner becomes a voter also when it caught up too early for it, and votes before it knows that it is one."""

import random

import pytest

from ottla.raft.core import Config, HardState, Membership, Raft, Snapshot
from ottla.raft.core.messages import Heartbeat, VoteRequest, VoteResponse
from tests.unit.raft.core.cluster import Cluster, Node, member


def elect(cluster: Cluster) -> Node:
    cluster.settle(60)
    leader = cluster.leader()
    assert leader is not None
    return leader


def test_a_learner_that_caught_up_before_its_own_addition_was_committed_is_promoted_though_nothing_more_happens() -> (
    None
):
    cluster = Cluster(seed=3)
    leader = elect(cluster)
    new = member(9)
    cluster.nodes[new] = Node(cluster, new, [])
    leader.core.add_voter(new)
    leader.pump()
    leader.sync(len(leader.unsynced))
    leader.pump()
    for _ in range(20):  # only the learner is heard: what adds it is not committed yet
        for position, message in enumerate(cluster.wire):
            if new in (message.source, message.target):
                cluster.deliver(position)
                break
        for node in (cluster.nodes[new], leader):
            if node.unsynced:
                node.sync(len(node.unsynced))
                node.pump()
    log = leader.core.log
    assert log.commit < log.membership_index
    assert cluster.nodes[new].core.log.last_index == log.last_index
    cluster.settle(20)
    assert new in leader.core.log.membership.voters


@pytest.mark.parametrize("seed", range(12))
def test_a_learner_that_hears_no_leader_for_a_time_out_grants_votes_from_then_on(seed: int) -> None:
    """It may be a voter already, by an entry that it was not sent, and the others cannot elect anybody without it."""
    leader, learner = member(1), member(2)
    membership = Membership(frozenset({leader}), frozenset({learner}))
    core = Raft(
        Config(member=learner, election_ticks=10, heartbeat_ticks=2),
        random.Random(seed),
        HardState(3, None),
        Snapshot(0, 0, membership, b""),
    )
    core.step(Heartbeat(source=leader, target=learner, term=3, round=1, commit=0))
    for _ in range(20):
        core.tick()
    for _ in range(40):
        core.tick()
        core.ready()
        core.step(VoteRequest(source=leader, target=learner, term=4, last_index=1, last_term=3, pre=True))
        ready = core.ready()
        assert ready is not None
        assert [message.granted for message in ready.messages if isinstance(message, VoteResponse)] == [True]
