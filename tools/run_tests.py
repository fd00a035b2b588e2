"""Runs the test suite: what starts nodes one after the other, and behind it what needs nothing but the processor.

Nodes and clients measure time; side by side they would be measured against each other. But they wait for most of it,
and the rest of the suite takes what they leave, on two workers of low priority. Both parts always run. What the latter
prints comes as a whole when it has ended; at the end stand the closing line of each part, and their sum. Arguments
after `--` go to pytest.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
SERIAL = ("tests/integration", "tests/interop", "tests/docs")
OLDEST_PARALLEL = ("tests/unit/client", "tests/unit/grpc_api")
OLDEST_SERIAL = ("tests/integration/test_grpc_*.py", "tests/integration/raft_transport")
PYTEST = [sys.executable, "-m", "pytest", "-q", "--durations=15", "--durations-min=2"]
WORKERS = ["-n", "2", "--dist", "worksteal"]
NO_WORKERS = ["-p", "no:xdist"]
STEP_BACK = 10  # nice: a tenth of the share of another who wants the processor too
LOOK_S = 0.1
INTERRUPTED, NO_TESTS = 2, 5  # pytest's exit codes
OUTCOMES = ("failed", "passed", "skipped", "errors")


def main() -> int:
    """Exit code 1 when a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--oldest", action="store_true", help="only what depends on grpcio and protobuf")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    arguments = parser.parse_args()
    if arguments.oldest:
        parallel = list(OLDEST_PARALLEL)
        serial = sorted(str(path.relative_to(ROOT)) for wanted in OLDEST_SERIAL for path in ROOT.glob(wanted))
    else:
        parallel = sorted(
            str(path.relative_to(ROOT))
            for path in (ROOT / "tests").iterdir()
            if path.is_dir() and not path.name.startswith("_") and str(path.relative_to(ROOT)) not in SERIAL
        )
        serial = list(SERIAL)
    return run(serial, parallel, arguments.pytest)


def run(serial: list[str], parallel: list[str], arguments: list[str]) -> int:
    """Run pytest for both parts, and print how each ended and the sum; 1 when one of them failed."""
    started = time.monotonic()
    # Ctrl-C reaches pytest, too: it is given the time to stop the nodes and to say where it was.
    signal.signal(signal.SIGINT, lambda *_: None)
    with (
        tempfile.TemporaryDirectory() as directory,
        Part(serial, [*NO_WORKERS, *arguments], Path(directory) / "serial") as one,
        Part(parallel, [*WORKERS, *arguments], Path(directory) / "parallel", behind=True) as other,
    ):
        parts = (other, one)
        while {part.has_ended() for part in parts} != {True}:
            time.sleep(LOOK_S)
        if any(part.code == INTERRUPTED for part in parts):
            return 130
        # Arguments may choose tests of one part only.
        failed = any(part.code != 0 and not (part.code == NO_TESTS and arguments) for part in parts)
        counts = [part.count() for part in parts]
        lines = [part.closing_line(counted) for part, counted in zip(parts, counts, strict=True)]
    total = sum(counts, Counter())
    sys.stdout.write("\n".join(["", *lines, _closing_line(total, time.monotonic() - started), ""]))
    return 1 if failed else 0


class Part:
    """One pytest over some paths. `behind`: on what the others leave of the processor, and it prints at its end."""

    def __init__(self, paths: list[str], options: list[str], place: Path, *, behind: bool = False) -> None:
        self._paths, self._report = paths, place.with_suffix(".xml")
        self._started, self._took_s = time.monotonic(), 0.0
        self._output = place.open("w+") if behind else None
        command = [*PYTEST, *options, f"--junitxml={self._report}", *paths]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=self._output, stderr=self._output)
        if behind:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + STEP_BACK)
        self.code: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._output is not None:
            self._output.close()

    def has_ended(self) -> bool:
        """Print what it held back when it has, once."""
        if self.code is None and (code := self._process.poll()) is not None:
            self.code, self._took_s = code, time.monotonic() - self._started
            if self._output is not None:
                self._output.seek(0)
                sys.stdout.write("\n")
                shutil.copyfileobj(self._output, sys.stdout)
                sys.stdout.flush()
        return self.code is not None

    def count(self) -> Counter[str]:
        return _count(self._report)

    def closing_line(self, counted: Counter[str]) -> str:
        return f"{' '.join(self._paths)}: {_closing_line(counted, self._took_s)}"


def _closing_line(counted: Counter[str], took_s: float) -> str:
    """As pytest ends a run."""
    outcomes = [f"{counted[outcome]} {outcome}" for outcome in OUTCOMES if counted[outcome] or outcome == "passed"]
    return f"{', '.join(outcomes)} in {took_s:.2f}s"


def _count(report: Path) -> Counter[str]:
    if not report.exists():
        return Counter(errors=1)  # pytest itself broke
    counted: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for name in ("tests", "failures", "errors", "skipped"):
            counted[name] += int(suite.get(name, 0))
    tests, failures, errors, skipped = (counted[name] for name in ("tests", "failures", "errors", "skipped"))
    return Counter(failed=failures, passed=tests - failures - errors - skipped, skipped=skipped, errors=errors)


if __name__ == "__main__":
    sys.exit(main())
