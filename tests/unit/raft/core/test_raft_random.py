"""Random histories: whatever happens, Raft's invariants hold, and once it stops happening, the cluster goes on."""

import pytest

from ottla.raft.core import EntryKind, MembershipError, NotLeading
from tests.unit.raft.core.cluster import Cluster, Node, member


def shake(cluster: Cluster, steps: int) -> None:
    rng = cluster.random
    next_life = 100
    for _ in range(steps):
        node: Node = rng.choice(list(cluster.nodes.values()))
        match rng.randrange(0, 100):
            case n if n < 40 and cluster.wire:
                cluster.deliver(rng.randrange(0, min(len(cluster.wire), 8)))
            case n if n < 62:
                if node.alive:
                    node.core.tick()
                    node.pump()
            case n if n < 80:
                if node.alive and node.unsynced:
                    node.sync(rng.randrange(1, len(node.unsynced) + 1))
                    node.pump()
            case n if n < 90:
                leader = cluster.leader()
                if leader is not None:
                    try:
                        leader.core.propose(bytes([rng.randrange(0, 256)]) * rng.randrange(1, 60))
                        leader.core.read(None)
                    except NotLeading:
                        pass
                    leader.pump()
            case n if n < 92:
                node.crash()
            case n if n < 95:
                if not node.alive:
                    node.start()
            case 95:
                if node.alive:
                    node.compact()
                    node.pump()
            case 96:
                cluster.loss = rng.choice([0.0, 0.0, 0.1, 0.4])
            case 97:
                members = list(cluster.nodes)
                cluster.cut = {(a, b) for a in members for b in members if rng.random() < 0.15}
                if rng.random() < 0.6:
                    cluster.cut = set()
            case 98:
                leader = cluster.leader()
                if leader is not None:
                    leader.core.transfer_leadership(rng.choice(sorted(leader.core.log.membership.voters)))
                    leader.pump()
            case _:
                leader = cluster.leader()
                if leader is None:
                    continue
                known = leader.core.log.membership
                try:
                    if len(known.members) < 5 and rng.random() < 0.5:
                        next_life += 1
                        new = member(next_life)
                        leader.core.add_voter(new)
                        cluster.nodes[new] = Node(cluster, new, [])
                    elif len(known.members) > 2:
                        leader.core.remove(rng.choice(sorted(known.members)))
                except MembershipError:
                    pass
                leader.pump()
        cluster.check()


@pytest.mark.parametrize("seed", [*range(100), 1461])  # 1461: a leader restarts before its own removal is committed
def test_invariants_hold_and_the_cluster_goes_on(seed: int) -> None:
    cluster = Cluster(seed, size=1 + seed % 5)
    shake(cluster, 1500)
    cluster.settle()
    leader = cluster.leader()
    assert leader is not None, "nobody leads after everything healed"
    index, _ = leader.core.propose(b"!")
    leader.core.read("last")
    leader.pump()
    cluster.drain()
    assert cluster.committed[index].kind is EntryKind.DATA
    assert leader.reads[-1][0] == "last"
    for m in leader.core.log.membership.voters:
        node = cluster.nodes[m]
        assert node.core.log.commit >= index - 1
    cluster.settle(20)
    states = {bytes(cluster.nodes[m].applied) for m in leader.core.log.membership.voters}
    assert len(states) == 1, "replicas differ"
