"""The known-bad baseline: pysyncobj 0.3.17 in a simulation that has to convict it, and our own core, which has to pass.

Three members replicate the key-value store of `examples/kv`. What is done to them is what Raft is made for, and what
pysyncobj's documentation lets one expect to survive:

- Messages are delayed. Within a connection they stay in order and none is lost; connections break and what was on its
  way is lost; they come back. Members are cut off for seconds. No message is repeated, damaged or reordered: TCP does
  not do that.
- One member at a time is killed, between any two writes of its journal, and comes back with what it has written
  (variant `kill`: every byte that was written survives, as with `kill -9`).
- Variant `power`: the same as a power cut, so that what was never synced may be lost: the newest writes of at most the
  last second, never an older one before a newer one, and never a snapshot file. Real disks are worse.

Every member has a journal and a snapshot file, clients do not retry, and an answer that says that a command failed is
taken for "unknown". Reads go through the log like writes. The only settings that are not pysyncobj's own make
compactions and reconnects happen within seconds instead of minutes.
"""
