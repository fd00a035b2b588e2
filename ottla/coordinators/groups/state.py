"""The states of a classic group.

EMPTY                  no members; may hold offsets
PREPARING_REBALANCE    waits until all members have (re)joined, or the rebalance timeout is over
COMPLETING_REBALANCE   has a new generation; waits for the leader's assignment
STABLE                 each member has its assignment
DEAD                   deleted

from / to              EMPTY  PREPARING  COMPLETING  STABLE  DEAD
EMPTY                     ×       ×                     ¹       ×
PREPARING_REBALANCE       ×                  ×                  ×
COMPLETING_REBALANCE              ×                     ×       ×
STABLE                    ¹       ×                     ²       ×

¹ only on loading, which sees no rebalance   ² a static member took its place back under a new member id
"""

from enum import Enum


class GroupState(Enum):
    """The values are the names that the protocol shows."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


TRANSITIONS = {
    GroupState.EMPTY: {GroupState.EMPTY, GroupState.PREPARING_REBALANCE, GroupState.STABLE, GroupState.DEAD},
    GroupState.PREPARING_REBALANCE: {GroupState.EMPTY, GroupState.COMPLETING_REBALANCE, GroupState.DEAD},
    GroupState.COMPLETING_REBALANCE: {GroupState.PREPARING_REBALANCE, GroupState.STABLE, GroupState.DEAD},
    GroupState.STABLE: {GroupState.EMPTY, GroupState.PREPARING_REBALANCE, GroupState.STABLE, GroupState.DEAD},
    GroupState.DEAD: set[GroupState](),
}
