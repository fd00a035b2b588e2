"""What a seed decides before a run begins: the size of the cluster, which faults there are and how strong."""

from dataclasses import dataclass
from random import Random
from typing import Final

ACTIONS: Final = {
    "power cut": 3, "kill": 4, "power cut everywhere": 2, "cut leader off": 3, "split": 2, "one-way cuts": 2,
    "cut streams": 2, "bad links": 2, "reset": 3, "slow disk": 2, "stalled disk": 2, "stall who joins": 2,
    "failing disk": 1, "full disk": 1, "clock": 1, "slow node": 2, "pause": 2, "restart": 4, "rolling restart": 2,
    "replace": 2, "move": 3, "elect": 2, "create and delete": 3, "transfer": 2, "unregister": 1,
}  # fmt: skip
"""What the nemesis can do, and how often one is in a run's mixture relative to the others."""

THEMES: Final = (
    ("kill", "restart", "move"),
    ("power cut", "power cut everywhere", "kill"),
    ("cut leader off", "split", "one-way cuts", "cut streams"),
    ("restart", "rolling restart", "transfer", "elect"),
    ("create and delete", "kill", "reset"),
    ("stalled disk", "slow disk", "pause", "slow node"),
    ("failing disk", "full disk", "power cut"),
    ("replace", "kill", "restart"),
    ("stall who joins", "kill", "cut streams"),
)
"""Mixtures that belong together: faults that meet make what none of them makes alone."""

DECAY: Final = 0.2
"""The part of the runs in which files decay too, whatever else there is; drawn last, so old seeds stay the same."""


@dataclass(slots=True, kw_only=True)
class Options:
    """One run."""

    nodes: int
    partitions: int
    actions: tuple[str, ...]
    every_s: float
    """On average between two actions of the nemesis."""
    lasts_s: float
    """On average until a fault that lasts is mended."""
    duration_s: float
    wire: bool
    producers: int
    think_s: float
    late: float
    delay_ms: tuple[float, float]
    slowest_ms: float
    drift: float
    journal_bytes: int
    snapshot_after_bytes: int
    kept_entries: int
    tail_bytes: int
    ends_in_the_dark: bool
    """Whether the power of all is cut once more, when everything has healed."""
    quiet: float
    """The part of the batches after which a producer writes nothing for long: partitions stand still meanwhile."""
    workers: int
    """How many consume, transform and produce in transactions, as one group."""
    kills: float
    """The part of the steps of a transaction at which its worker ends."""
    zombies: float
    """... at which it hangs, has a successor, and goes on later."""
    strikes: float
    """... at which a coordinator that the transaction rests on goes away."""
    save_bytes: int
    """So much of a log's end is read at a start; what is known of producers is saved before."""
    late_requests: float
    """The part of the requests of transactions that arrive seconds later, when they have been repeated and more."""
    older: float = 0.0
    """The part of the lives of workers in which they are older clients, without transactions of version 2."""

    @classmethod
    def draw(cls, random: Random) -> "Options":
        names = list(ACTIONS)
        actions: list[str] = []
        wanted = random.choice([0, 1, 2, 3, 3, 4, 5, 6])
        if random.random() < 0.4:
            actions, wanted = list(random.choice(THEMES)), 0
        while len(actions) < wanted:
            name = random.choices(names, [ACTIONS[n] for n in names])[0]
            if name not in actions:
                actions.append(name)
        options = cls(
            nodes=random.choices([3, 4, 5], [8, 3, 1])[0],
            partitions=random.choice([1, 2, 2, 3]),
            actions=tuple(actions),
            every_s=random.choice([0.2, 0.4, 0.8, 1.5]),
            lasts_s=random.choice([0.2, 0.6, 1.5, 3.0]),
            duration_s=random.choice([3.0, 5.0, 8.0]),
            wire=random.random() < 0.25,
            producers=random.choice([2, 3, 4]),
            think_s=random.choice([0.02, 0.05, 0.1]),
            late=random.choice([0.0, 0.0, 0.01, 0.05]),
            delay_ms=random.choice([(0.1, 1.0), (0.1, 1.0), (0.5, 8.0)]),
            slowest_ms=random.choice([0.5, 3.0, 3.0, 10.0]),
            drift=random.choice([0.0, 0.0, 0.02]),
            journal_bytes=random.choice([0, 16_384, 65_536]),
            snapshot_after_bytes=random.choice([1500, 6000, 1_000_000]),
            kept_entries=random.choice([0, 5, 1000]),
            tail_bytes=random.choice([2000, 1_000_000]),
            ends_in_the_dark=random.random() < 0.3,
            quiet=random.choice([0.0, 0.0, 0.0, 0.1, 0.3]),
            workers=random.choice([0, 1, 2, 2, 3]),
            kills=random.choice([0.0, 0.0, 0.02, 0.05]),
            zombies=random.choice([0.0, 0.0, 0.02, 0.05]),
            strikes=random.choice([0.0, 0.05, 0.15]),
            save_bytes=random.choice([1000, 4000, 1_000_000]),
            late_requests=random.choice([0.0, 0.05, 0.15]),
        )
        if random.random() < DECAY:
            options.actions = (*options.actions, "decay")
        options.older = random.choice([0.0, 0.0, 0.5, 1.0])
        return options
