"""Builds the compiled wheel into dist/ (`make wheel`): gcc twice, with a profile of working nodes in between.

The first build's modules count how often each branch is taken. Three nodes of it work for half a minute, and the
second build puts what is used side by side and the rest out of the way: a tenth less processor time for a transaction,
a seventh for a request (docs/benchmarks.md). With another compiler than gcc, or `--plain`, there is one build without.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from bench.measures import MEASURES, Options
from bench.peers import ottla

ROOT: Final = Path(__file__).resolve().parent.parent
SECONDS: Final = 4.0
WORK: Final = (
    "transactions, eight producers",
    "transactions, one producer",
    "end to end at 1,000/s",
    "the same, 100 in flight",
    "produce 1 KiB",
    "offset commits, 20 clients",
)
# A node ends by `os._exit`, which leaves out what the C library does at an end: that is when counts are written.
WRITE_COUNTS: Final = """import ctypes, os
os._exit = lambda code: ctypes.CDLL(None).exit(code)
"""


def main() -> None:
    """Leaves one wheel in dist/."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plain", action="store_true", help="compile once, without a profile")
    options = parser.parse_args()
    dist = ROOT / "dist"
    for old in dist.glob("*.whl"):
        old.unlink()
    if options.plain or not _is_gcc():
        _say("one build, without a profile")
        _build(dist, {})
        return
    with tempfile.TemporaryDirectory() as name:
        directory, scratch = Path(name), Path(name) / "scratch"
        scratch.mkdir()
        profile = {"OTTLA_PROFILE": str(scratch)}
        _say("1 of 3: a build that counts")
        _train(_build(directory, profile), directory / "site")
        if not any(scratch.rglob("*.gcda")):
            raise SystemExit("the nodes of the first build wrote no profile; `--plain` does without one")
        for made in (*scratch.rglob("*.o"), *scratch.rglob("*.so")):
            made.unlink()
        _say("3 of 3: the build that is arranged by it")
        _build(dist, profile)


def _is_gcc() -> bool:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    said = subprocess.run([*compiler, "--version"], check=False, capture_output=True, text=True).stdout
    return sys.platform == "linux" and "Free Software Foundation" in said


def _build(into: Path, profile: dict[str, str]) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(into), str(ROOT)]
    subprocess.run(command, check=True, env=os.environ | {"OTTLA_COMPILE": "1"} | profile)
    (wheel,) = into.glob("*.whl")
    return wheel


def _train(wheel: Path, site: Path) -> None:
    """Three nodes of this wheel work, and stop in order."""
    shutil.unpack_archive(wheel, site, "zip")
    (site / "sitecustomize.py").write_text(WRITE_COUNTS)
    # Of the nodes, which are to take nothing from the checkout; this process has its modules already.
    os.environ.update({"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"})
    with ottla(nodes=3, copies=3) as started:
        for name in WORK:
            _say(f"2 of 3: its nodes at work: {name}")
            MEASURES[name](started.cluster, Options(seconds=SECONDS))
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        del os.environ[name]


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
