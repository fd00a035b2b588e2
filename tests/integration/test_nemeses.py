"""What each nemesis does, on real processes: in a network and mounts of its own, as a run of `ottla chaos` has them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.testing.chaos.needs import unshare
from ottla.testing.chaos.network import OUTSIDE

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")


def run_inside(part: str) -> None:
    """Run that part's tests in namespaces."""
    environment = {**os.environ, OUTSIDE: str(Path("/proc/self/ns/net").readlink())}
    command = [*unshare(), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / "nemeses" / part)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-5000:]}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_links_disks_and_clocks() -> None:
    run_inside("inside_places.py")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nodes() -> None:
    run_inside("inside_cluster.py")
