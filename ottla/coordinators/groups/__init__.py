"""Consumer groups: the classic protocol's membership, committed offsets, and their administration.

`service.GroupCoordinator` is the way in. `shard.GroupShard` is the state behind one partition of `__consumer_offsets`;
what it does with a group stands in `joining`, `syncing` and `rebalance`, what it does with offsets in `offsets`.
"""
