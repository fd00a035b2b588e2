"""Replication of partitions: the leader pushes batches as they lie in its log, followers tell what is durable.

    manager.py        ReplicaManager: what the node's wiring uses; assignments in, proposals to the controller out
    leading.py        the role of a partition that this node leads; on leader.py: high watermark and ISR, pure
    following.py      the role of a partition that another node leads; on follower.py: a table of states, pure
    divergence.py     where two logs part, by leader epochs
    serving.py        connections that followers dialled: slots, windows, what is sent next
    dialling.py       connections to leaders: subscriptions, what is durable
    wire.py frames.py handshake.py   the protocol's bytes

Control (assignments, AlterPartition) belongs to the controller's client and comes in as plain data; here are the bytes.
"""
