"""Every nemesis of the package, by name, and the short words that stand for several."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ottla.core.errors import ConfigError
from ottla.testing.chaos import disks, doors, membership, memory, partitions, processes
from ottla.testing.chaos.needs import NAMESPACES
from ottla.testing.chaos.nemesis import Nemesis
from ottla.testing.chaos.target import Target

NEMESES: Final[Mapping[str, type[Nemesis]]] = {
    kind.name: kind
    for kind in (
        processes.Kill,
        processes.KillLeader,
        processes.KillController,
        processes.KillMajority,
        processes.KillAll,
        processes.Pause,
        processes.PauseLeader,
        processes.PauseController,
        processes.RollingRestart,
        partitions.PartitionHalves,
        partitions.PartitionLeader,
        partitions.PartitionController,
        partitions.PartitionIsolated,
        partitions.PartitionOneWay,
        partitions.PartitionRing,
        partitions.PartitionBridge,
        partitions.SlowLinks,
        partitions.LossyLinks,
        disks.DiskFull,
        disks.LostDisk,
        disks.ColdRot,
        doors.Flood,
        doors.Garbage,
        memory.MemoryLimit,
        membership.AddNode,
        membership.Reassign,
    )
}
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "partition": [name for name in NEMESES if name.startswith("partition-")],
}


def names(words: Iterable[str], known: Mapping[str, type[Nemesis]] = NEMESES) -> list[str]:
    """What `--faults kill,partition` names, each once. Raises ConfigError."""
    found: dict[str, None] = {}
    for word in words:
        if word not in known and word not in GROUPS:
            raise ConfigError(f"--faults {word}: choose among {', '.join([*GROUPS, *known])}")
        found.update(dict.fromkeys(GROUPS.get(word, [word])))
    return list(found)


def make(name: str, target: Target, known: Mapping[str, type[Nemesis]] = NEMESES) -> Nemesis:
    """The nemesis of that name, for a target that is not started yet. Raises Unavailable where it cannot be done."""
    kind = known[name]
    check(name, known)
    return kind(target)


def check(name: str, known: Mapping[str, type[Nemesis]] = NEMESES) -> None:
    """Raises Unavailable, with what to install or to allow, when this machine cannot do it."""
    for need in known[name].needs:
        need.check(name)


def wants_namespaces(name: str, known: Mapping[str, type[Nemesis]] = NEMESES) -> bool:
    """Whether the run is to be in a network and mounts of its own (`network.enter`) for it."""
    return NAMESPACES in known[name].needs
