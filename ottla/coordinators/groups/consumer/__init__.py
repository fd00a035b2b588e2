"""Consumer groups of the protocol of KIP-848: members say what they want and what they own, the coordinator assigns.

There is no rebalance that stops a group. The group has an epoch that rises with each change of its members, their
subscriptions or their topics; a target assignment for that epoch; and each member walks from what it has to what it
should have in its own heartbeats. A partition changes hands in two steps, so that it never has two owners: its owner
gives it up and says so, and only then its next owner gets it.

`group` is the state of one group, all of it replayed; `store` holds those of a shard. `heartbeat` is the one call of
members, `reconciliation` the walk of one member, `assignors` the targets. `coordinator` is what the shard calls.
"""
