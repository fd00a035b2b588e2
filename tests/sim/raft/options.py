"""What a seed decides before a run begins: how big the cluster is, which faults there are and how strong.

Swarm testing (Groce et al. 2012): a run with every fault at once makes little progress and so reaches little; runs that
each leave out most of them reach what no single mixture would.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

ACTIONS: Final = {
    "power cut": 3, "kill": 3, "cut leader off": 4, "split": 2, "one-way cuts": 2, "bad links": 3, "reset": 3,
    "slow disk": 2, "failing disk": 1, "full disk": 1, "clock": 1, "add": 3, "remove": 3, "replace disk": 2,
    "transfer": 3, "bit flip": 1, "power cut in a job": 3, "power cut everywhere": 1, "pause": 3,
}  # fmt: skip
"""What the nemesis can do, and how often one is in a run's mixture relative to the others."""

THEMES: Final = (
    ("cut leader off", "pause"),
    ("cut leader off", "kill", "transfer"),
    ("split", "add", "remove", "replace disk"),
    ("power cut", "power cut in a job", "power cut everywhere"),
    ("failing disk", "full disk", "power cut"),
    ("one-way cuts", "bad links", "reset"),
)
"""Mixtures that belong together, for a third of the runs: faults that meet make what none of them makes alone."""


@dataclass(slots=True, kw_only=True)
class Options:
    """One run."""

    voters: int
    spares: int
    actions: tuple[str, ...]
    every_s: float
    """On average between two actions of the nemesis."""
    lasts_s: float
    """On average until a fault that lasts is mended."""
    duration_s: float
    wire: bool
    clients: int
    think_s: float
    in_sessions: float
    """The part of the clients that propose in sessions."""
    repeats: float
    """The part of the operations of a session before which an earlier one, still unresolved, is asked for again."""
    large: float
    """The part of the proposals that are large."""
    keys: int
    # the base line, also while nothing special happens
    loss: float
    duplicates: float
    late: float
    delay_ms: tuple[float, float]
    slowest_sync_ms: float
    drift: float
    settings: dict[str, int] = field(default_factory=dict)
    readers: int = 0
    """Those that ask anybody, without a pause."""

    @classmethod
    def draw(cls, random: Random) -> "Options":
        options = cls._draw(random)
        theme = random.random()
        if theme < 0.15:
            options._seek_stale_reads(random)
        elif theme < 0.23:
            options._seek_miscounted_learners(random)
        return options

    def _seek_miscounted_learners(self, random: Random) -> None:
        """Members are added again and again, and the leader is cut off from the voters meanwhile.

        Quick links and large chunks, so that a new member soon holds more than the voters.
        """
        self.voters, self.spares = random.choice([2, 3]), 2
        self.actions = ("cut off but for a learner", "cut off but for a learner", "remove")
        self.every_s, self.lasts_s = random.choice([1.0, 2.0]), random.choice([0.3, 1.0])
        self.delay_ms = (0.1, 1.0)
        self.settings["chunk_bytes"] = 1000

    def _seek_stale_reads(self, random: Random) -> None:
        """Leaders that know more than others are cut off, and whoever leads is asked at once.

        Few keys, so that a read tells much; disks not too fast, so that a new leader takes a while to commit.
        """
        self.voters = random.choice([3, 3, 5])
        self.actions = ("cut off after a commit", *random.sample(["cut leader off", "pause", "transfer", "kill"], 1))
        self.every_s, self.lasts_s = random.choice([0.6, 1.0, 2.0]), random.choice([1.0, 2.0])
        self.readers = random.choice([1, 2, 3])
        self.keys = random.choice([1, 2])
        self.slowest_sync_ms = random.choice([3.0, 15.0, 60.0])

    @classmethod
    def _draw(cls, random: Random) -> "Options":
        names = list(ACTIONS)
        actions: list[str] = []
        wanted = random.choice([0, 1, 2, 3, 3, 4, 5, 6, 8])
        if random.random() < 0.33:
            actions, wanted = list(random.choice(THEMES)), 0
        while len(actions) < wanted:
            name = random.choices(names, [ACTIONS[n] for n in names])[0]
            if name not in actions:
                actions.append(name)
        rough = random.random()
        return cls(
            voters=random.choices([1, 2, 3, 4, 5], [4, 6, 55, 5, 30])[0],
            spares=random.choice([0, 1, 1, 2]),
            actions=tuple(actions),
            every_s=random.choice([0.3, 0.6, 1.0, 2.0]),
            lasts_s=random.choice([0.3, 1.0, 2.0, 4.0]),
            duration_s=random.choice([8.0, 12.0, 20.0]),
            wire=random.random() < 0.25,
            clients=(clients := random.choice([1, 2, 3, 4, 6])),
            think_s=clients / random.choice([5, 10, 20, 30]),
            repeats=random.choice([0.0, 0.1, 0.3]),
            in_sessions=random.choice([0.0, 0.5, 0.5, 1.0]),
            large=random.choice([0.0, 0.0, 0.05]),
            keys=random.choice([1, 2, 4]),
            loss=random.choice([0.01, 0.05, 0.15]) if rough < 0.3 else 0.0,
            duplicates=random.choice([0.0, 0.0, 0.02, 0.2]),
            late=random.choice([0.0, 0.0, 0.01, 0.05]),
            delay_ms=random.choice([(0.1, 1.0), (0.1, 1.0), (0.5, 8.0), (1.0, 40.0)]),
            slowest_sync_ms=random.choice([0.5, 3.0, 3.0, 15.0, 60.0]),
            drift=random.choice([0.0, 0.0, 0.02, 0.3]),
            settings={
                "max_append_bytes": random.choice([200, 1000, 100_000]),
                "max_in_flight_bytes": random.choice([400, 4000, 1_000_000]),
                "max_uncommitted_bytes": random.choice([600, 4000, 1_000_000, 1_000_000]),
                "chunk_bytes": random.choice([30, 100, 1000]),
                "kept_entries": random.choice([0, 1, 5, 50]),
                "snapshot_after_bytes": random.choice([600, 2000, 6000, 1_000_000]),
                "segment_bytes": random.choice([500, 2000, 8000]),
            },
        )
