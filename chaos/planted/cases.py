"""Which bugs are planted, and under which faults, workloads and client they must come to light."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`bug`: as `chaos.planted.plants` has it."""

    bug: str
    faults: tuple[str, ...]
    workloads: tuple[str, ...]
    client: str = "confluent"
    nodes: int = 3  # one, where the bug is not one of replication: such a run is quick


CASES: Final = (
    Case(
        bug="readers are not told of aborted transactions",
        faults=("kill-client",),
        workloads=("bank",),
        nodes=1,
    ),
    Case(
        bug="the last stable offset does not wait for open transactions",
        faults=("kill-client",),
        workloads=("bank",),
        nodes=1,
    ),
    Case(
        bug="aborted transactions are forgotten at a start",
        faults=("kill-client", "rolling-restart"),
        workloads=("bank",),
        nodes=1,
    ),
    Case(
        bug="a partition is assigned to two members",
        faults=("kill-client",),
        workloads=("groups",),
        nodes=1,
    ),
    Case(
        bug="offsets of a transaction count whatever its end",
        faults=("kill-client", "zombie-client"),
        workloads=("copy",),
        nodes=1,
    ),
    Case(
        bug="a new leader forgets the sequences of producers",
        faults=("slow-links+kill-leader",),
        workloads=("append",),
    ),
    Case(
        bug="records are acknowledged before min.insync.replicas have them",
        faults=("partition-leader",),
        workloads=("append",),
    ),
)
