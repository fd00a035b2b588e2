"""Which workloads there are, who does what in each, and what the checker may expect of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ottla.core.errors import ConfigError
from ottla.testing.chaos.clients.port import Topic
from ottla.testing.chaos.workloads import append, bank, churn, copying, table
from ottla.testing.chaos.workloads.scene import Scene
from ottla.testing.history import Expectations

Actor = Callable[[Scene], Awaitable[None]]


class Role(StrEnum):
    """A process of clients. Faults on clients befall the two workers only: there is always somebody who works."""

    STEADY = "steady"
    A = "a"
    B = "b"


WORKERS: Final = (Role.A, Role.B)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One of them. `groups`: its consumer groups and the topics that they read, which they must come to the end of."""

    name: str
    about: str
    topics: Callable[[str, int], list[Topic]]
    steady: tuple[Actor, ...] = ()
    worker: tuple[Actor, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    transactional: tuple[str, ...] = ()  # topics that are written in transactions

    def actors(self, role: Role) -> tuple[Actor, ...]:
        """What that process does for it."""
        return self.steady if role is Role.STEADY else self.worker


WORKLOADS: Final[Mapping[str, Workload]] = {
    one.name: one
    for one in (
        Workload(
            name="append",
            about="unique values to every partition, read by others all along",
            topics=append.topics,
            steady=(append.write, append.read),
        ),
        Workload(
            name="copy",
            about="consume, transform, produce in transactions, exactly once",
            topics=copying.topics,
            steady=(copying.write,),
            worker=(copying.copy,),
            groups={copying.GROUP: copying.SOURCE},
            transactional=(copying.COPY,),
        ),
        Workload(
            name="groups",
            about="members that join, commit, leave and are killed",
            topics=churn.topics,
            steady=(churn.write, churn.be_member),
            worker=(churn.be_member,),
            groups={churn.GROUP: churn.TOPIC},
        ),
        Workload(
            name="bank",
            about="transfers between accounts, both entries in one transaction",
            topics=bank.topics,
            worker=(bank.tell,),
            transactional=(bank.TOPIC,),
        ),
        Workload(
            name="table",
            about="a compacted topic that is set, deleted and read as a table",
            topics=table.topics,
            steady=(table.write, table.read),
        ),
    )
}


def workloads(names: Sequence[str]) -> list[Workload]:
    """Those of these names, or all; raises ConfigError."""
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise ConfigError(f"workload {unknown[0]!r} is none of {', '.join(WORKLOADS)}")
    return [WORKLOADS[name] for name in names or WORKLOADS]


def expectations(prefix: str) -> Expectations:
    """What holds of their topics. Gaps are judged by the run, which knows its faults."""
    return Expectations(
        tables=frozenset({f"{prefix}{table.TOPIC}"}),
        banks=MappingProxyType({f"{prefix}{bank.TOPIC}": bank.TOTAL}),
    )
