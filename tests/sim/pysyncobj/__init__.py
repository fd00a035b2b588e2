"""The known-bad baseline: pysyncobj 0.3.17 in a simulation that has to convict it, and our own core, which has to pass.

Three members replicate the key-value store of `examples/kv`. What is done to them is what Raft is made for, and what
pysyncobj's documentation lets one expect to survive, in four variants:

`calm`      nothing: the scenario itself breaks nobody
`network`   connections break and come back, members are cut off for seconds
`kill`      besides, one member at a time is killed and comes back; every byte that it wrote survives
`power`     the same as power cuts: what was never synced may be lost

Messages are delayed, but within a connection they stay in order and none is lost, repeated or damaged: TCP does not do
that. When a connection breaks, what was on its way is lost. A kill falls between any two writes of the journal. A power
cut takes the newest writes of at most the last second, never an older one before a newer one, and never a snapshot
file: real disks are worse.

Every member has a journal and a snapshot file, clients do not retry, and an answer that says that a command failed is
taken for "unknown". Reads go through the log like writes. The only settings that are not pysyncobj's own make
compactions happen within a run (from 20 entries on, in chunks of 1 KiB).

`python -m tests.sim.pysyncobj.convict --seeds 100`, seeds in which something broke, for pysyncobj: calm 0, network 25,
kill 23, power 28 (an acknowledged command lost: 0, 10, 3, 12). For our own core: none. What happens in seed 3 of
`network`: a leader that was cut off comes back with a tail that was never committed, and is sent a snapshot. Each chunk
carries the new leader's commit index, the follower takes it over without having compared logs, applies its own tail,
and answers clients that their commands are done; then the snapshot replaces them. What `power` adds to `kill` is the
price of never syncing.
"""
