"""A run on a throw-away cluster: which faults there are for it, and the network that some of them want."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ottla.core.errors import ConfigError
from ottla.testing.chaos import catalog
from ottla.testing.chaos.catalog import GROUPS, NEMESES
from ottla.testing.chaos.clients_nemesis import CLIENT_NEMESES
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.network import enter, is_inside
from ottla.testing.chaos.result import Result
from ottla.testing.chaos.run import SETTINGS, Plan, Tell, run
from ottla.testing.chaos.schedule import JOIN, kinds

__all__ = ["ALL", "GROUPS", "check_needs", "chosen_faults", "run_on_own_cluster", "step_into_network"]

ALL: Final[Mapping[str, Any]] = {**NEMESES, **CLIENT_NEMESES}


def chosen_faults(words: Iterable[str], known: Mapping[str, Any] = ALL) -> list[str]:
    """What words as `kill`, `partition` or `kill+slow-links` name; raises ConfigError, or Unavailable."""
    found: list[str] = []
    for word in (word.strip() for word in words):
        if JOIN in word:
            parts = word.split(JOIN)
            if len(parts) != len(catalog.names(parts, known)):
                raise ConfigError(f"--faults {word}: name single faults to be done at once")
            found.append(word)
        else:
            found += catalog.names([word], known)
    for kind in kinds(found):
        check_needs(kind, known)
    return found


def check_needs(name: str, known: Mapping[str, Any] = ALL) -> None:
    """Raises Unavailable, with what to install or to allow."""
    catalog.check(name, known)


def step_into_network(faults: Sequence[str], command: Sequence[str], known: Mapping[str, Any] = ALL) -> None:
    """Become that command in a network of the run's own, when a fault wants it; return when there is no need."""
    if not is_inside() and any(catalog.wants_namespaces(kind, known) for kind in kinds(faults)):
        sys.stdout.flush()
        os.environ.setdefault("PYTHONUNBUFFERED", "1")
        enter(command)


async def run_on_own_cluster(plan: Plan, directory: Path, nodes: int, tell: Tell) -> Result:
    """A local cluster of that many nodes, which is gone afterwards; its data stay in `directory`."""
    target = LocalTarget(directory, nodes=nodes, settings=SETTINGS)
    history = directory / "history"
    history.mkdir(parents=True, exist_ok=True)
    return await run(plan, target, history, tell)
