"""A learner becomes a voter also when it has caught up before it may."""

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
