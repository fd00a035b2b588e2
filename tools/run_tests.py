"""Runs the test suite: what needs only the processor on two workers, what starts nodes one after the other.

Nodes and clients measure time; side by side they would be measured against each other. Both parts always run. At the
end stand the closing line of each part, and their sum. Arguments after `--` go to pytest.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERIAL = ("tests/integration", "tests/interop", "tests/docs")
OLDEST_PARALLEL = ("tests/unit/client", "tests/unit/grpc_api")
OLDEST_SERIAL = ("tests/integration/test_grpc_*.py", "tests/integration/raft_transport")
PYTEST = [sys.executable, "-m", "pytest", "-q", "--durations=15", "--durations-min=2"]
WORKERS = ["-n", "2", "--dist", "worksteal"]
NO_WORKERS = ["-p", "no:xdist"]
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
    return run([(parallel, WORKERS), (serial, NO_WORKERS)], arguments.pytest)


def run(parts: list[tuple[list[str], list[str]]], arguments: list[str]) -> int:
    """Run pytest for each part, and print how each ended and the sum; 1 when one of them failed."""
    total: Counter[str] = Counter()
    lines = []
    failed = False
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        for number, (paths, options) in enumerate(parts):
            report = Path(directory) / f"{number}.xml"
            command = [*PYTEST, *options, f"--junitxml={report}", *arguments, *paths]
            part_started = time.monotonic()
            code = _run_to_end(command)
            if code == INTERRUPTED:
                return 130
            failed |= code != 0 and not (code == NO_TESTS and arguments)  # they may choose tests of one part only
            counted = _count(report)
            total.update(counted)
            lines.append(f"{' '.join(paths)}: {_closing_line(counted, part_started)}")
    sys.stdout.write("\n".join(["", *lines, _closing_line(total, started), ""]))
    return 1 if failed else 0


def _run_to_end(command: list[str]) -> int:
    """What pytest ends with. Ctrl-C reaches it, too: it is given the time to stop the nodes and to say where it was."""
    with subprocess.Popen(command, cwd=ROOT) as pytest:
        while True:
            try:
                return pytest.wait()
            except KeyboardInterrupt:
                continue


def _closing_line(counted: Counter[str], started: float) -> str:
    """As pytest ends a run."""
    outcomes = [f"{counted[outcome]} {outcome}" for outcome in OUTCOMES if counted[outcome] or outcome == "passed"]
    return f"{', '.join(outcomes)} in {time.monotonic() - started:.2f}s"


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
