"""A quorum of production nodes in the simulator, with faults drawn from a seed and every promise of Raft checked."""
