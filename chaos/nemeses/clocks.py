"""Clocks of single nodes that jump, or go too fast or too slow: libfaketime in their processes.

Only the time of day is false. Durations are measured by the monotonic clock, which an administrator or NTP cannot set.
"""

from pathlib import Path
from random import Random
from typing import ClassVar, Final

from ottla.testing.chaos.disks import OfLocalNodes
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import Need
from ottla.testing.chaos.nemesis import Fault

LIBRARY: Final = "libfaketimeMT.so.1"
_PLACES: Final = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
JUMPS_S: Final = (-86_400, -3600, -60, -5, 5, 60, 3600, 86_400)


def _library() -> Path | None:
    return next((found for place in _PLACES if (found := Path(place) / "faketime" / LIBRARY).exists()), None)


FAKETIME: Final = Need("libfaketime", lambda: None if _library() else "install libfaketime (`make system` does)")


class _Clock(OfLocalNodes):
    """The clock of one node is false."""

    needs: ClassVar[tuple[Need, ...]] = (FAKETIME,)

    def __init__(self, target: LocalTarget) -> None:
        super().__init__(target)
        self._directory = target.directory / "clocks"
        self._directory.mkdir(parents=True, exist_ok=True)
        library = _library()
        assert library is not None, "the need was not checked"
        if not any(self._directory.iterdir()):
            variables = {
                "FAKETIME_TIMESTAMP_FILE": str(self._directory / "node-{node}"),
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_CACHE_DURATION": "1",  # seconds between two looks at the file
                "FAKETIME_XRESET": "1",
            }
            target.preload(library, variables)
            for node in range(1, 6):
                self._set(node, "+0")
        self._false: int | None = None

    async def inject(self, random: Random) -> Fault:
        """Of one."""
        node = await self.one(random)
        if node is None:
            return self.nobody()
        self._false = node
        time, detail = self.time(random)
        self._set(node, time)
        return Fault(name=self.name, detail=f"node {node}, {detail}", nodes=(node,))

    async def heal(self) -> None:
        """It is right again: which is another jump."""
        self.cleanup()

    def cleanup(self) -> None:
        """The same."""
        node, self._false = self._false, None
        if node is not None:
            self._set(node, "+0")

    def _set(self, node: int, time: str) -> None:
        new = self._directory / f"node-{node}.new"
        new.write_text(f"{time}\n")
        new.rename(self._directory / f"node-{node}")

    def time(self, random: Random) -> tuple[str, str]:
        """As libfaketime reads it, and as people do."""
        raise NotImplementedError


class ClockJump(_Clock):
    """By seconds, or by a day."""

    name: ClassVar[str] = "clock-jump"
    description: ClassVar[str] = "a node's clock jumps by seconds to a day, forth or back, and later returns"

    def time(self, random: Random) -> tuple[str, str]:
        """How far."""
        seconds = random.choice(JUMPS_S)
        return f"{seconds:+d}", f"{seconds:+,d} s"


class ClockSkew(_Clock):
    """It goes on being more and more false."""

    name: ClassVar[str] = "clock-skew"
    description: ClassVar[str] = "a node's clock goes at half to five times its speed"

    def time(self, random: Random) -> tuple[str, str]:
        """How fast."""
        speed = random.choice([0.5, 0.9, 1.1, 2, 5])
        return f"+0 x{speed}", f"{speed} times as fast"
