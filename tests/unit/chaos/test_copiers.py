"""No process outlives a run with copiers, not even one that was stopped and went on beside its successor."""

import signal
import sys
from pathlib import Path
from random import Random

import pytest

from chaos.copiers import Copiers

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_zombie_that_went_on_ends_with_the_others(end: str, tmp_path: Path) -> None:
    copiers = Copiers(SLEEPER, tmp_path, Random(0))
    copiers.start()
    zombie = copiers._running["a"]
    zombie.send_signal(signal.SIGSTOP)
    copiers._zombies.append((0.0, zombie))
    copiers._begin("a")
    copiers.wake()
    begun = [zombie, *copiers._running.values()]
    assert len(set(begun)) == 3
    getattr(copiers, end)()
    assert [process.poll() is None for process in begun] == [False] * 3
