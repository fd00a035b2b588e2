"""Nodes that run the code of an earlier commit, and are brought to this one while clients are at work."""

import os
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import ClassVar, Final

from ottla.testing.chaos.disks import OfLocalNodes
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import Need, command
from ottla.testing.chaos.nemesis import Fault

ROOT: Final = Path(__file__).parents[2]
FROM: Final = os.environ.get("OTTLA_CHAOS_UPGRADE_FROM", "HEAD~1")


def _no_history() -> str | None:
    found = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--verify", "--quiet", f"{FROM}^{{commit}}"], capture_output=True
    )
    return None if found.returncode == 0 else f"this has to be a checkout that reaches back to {FROM}"


HISTORY: Final = Need("the project's history in git", _no_history)


class RollingUpgrade(OfLocalNodes):
    """All nodes begin on the earlier commit. The first time each is upgraded in turn, then back, then forth again.

    Back is possible as long as no feature level was raised (`ottla.version`), as Kafka has it.
    """

    name: ClassVar[str] = "rolling-upgrade"
    description: ClassVar[str] = f"every node in turn brought from the code of {FROM} to this one, and back"
    needs: ClassVar[tuple[Need, ...]] = (command("git", "git"), HISTORY)

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._earlier = target.directory / "earlier"
        self._is_upgraded = False
        archive = subprocess.Popen(["git", "-C", ROOT, "archive", FROM, "ottla"], stdout=subprocess.PIPE)
        self._earlier.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", self._earlier], stdin=archive.stdout, check=True)
        if archive.wait() != 0:
            raise RuntimeError(f"git archive {FROM} failed")
        for node in target.nodes:
            target.run_code_of(node, self._earlier)

    async def inject(self, random: Random) -> Fault:
        """All of it; nothing is left to heal."""
        order = list(await self.blocking(lambda: self.target.running))
        random.shuffle(order)
        goal = self._earlier if self._is_upgraded else None
        for node in order:
            await self.blocking(self._change, node, goal)
        self._is_upgraded = not self._is_upgraded
        way = f"from {FROM} to this commit" if self._is_upgraded else f"back to {FROM}"
        return Fault(name=self.name, detail=f"nodes {', '.join(map(str, order))} {way}", nodes=tuple(order))

    def _change(self, node: int, code: Path | None) -> None:
        self.target.stop(node)
        self.target.run_code_of(node, code)
        self.target.start_nodes(node)

    async def heal(self) -> None:
        """Done already."""

    def cleanup(self) -> None:
        """The earlier code is not needed any more."""
        shutil.rmtree(self._earlier, ignore_errors=True)
