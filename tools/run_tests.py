"""Runs the test suite: what needs only the processor on two workers, what starts nodes one after the other.

Nodes and clients measure time; side by side they would be measured against each other. Both parts always run; the last
line sums them up. Arguments after `--` go to pytest.
"""

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERIAL = ("tests/integration", "tests/interop", "tests/docs")
OLDEST = ("tests/unit/client", "tests/unit/grpc_api", "tests/integration")
NO_TESTS = 5  # pytest's exit code


def main() -> int:
    """Exit code 1 when a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--oldest", action="store_true", help="only what depends on grpcio and protobuf")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    arguments = parser.parse_args()
    if arguments.oldest:
        return run([(_existing(OLDEST), [])], arguments.pytest)
    serial = _existing(SERIAL)
    parallel = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and not path.name.startswith("_") and str(path.relative_to(ROOT)) not in SERIAL
    )
    return run([(parallel, ["-n", "2", "--dist", "worksteal"]), (serial, ["-p", "no:xdist"])], arguments.pytest)


def _existing(paths: tuple[str, ...]) -> list[str]:
    return [path for path in paths if any((ROOT / path).rglob("test_*.py"))]


def run(parts: list[tuple[list[str], list[str]]], arguments: list[str]) -> int:
    """Run pytest for each part; print the sum of what it reports."""
    total: Counter[str] = Counter()
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        for number, (paths, options) in enumerate(parts):
            report = Path(directory) / f"{number}.xml"
            command = [sys.executable, "-m", "pytest", "-q", *options, f"--junitxml={report}", *arguments, *paths]
            code = subprocess.run(command, cwd=ROOT, check=False).returncode
            failed |= code not in (0, NO_TESTS)
            total.update(_count(report))
    passed = total["tests"] - total["failures"] - total["errors"] - total["skipped"]
    broken = total["failures"] + total["errors"]
    sys.stdout.write(f"{passed} passed, {broken} failed, {total['skipped']} skipped\n")
    return 1 if failed else 0


def _count(report: Path) -> Counter[str]:
    if not report.exists():
        return Counter(errors=1, tests=1)
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    return sum(
        (
            Counter({key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")})
            for suite in suites
        ),
        Counter(),
    )


if __name__ == "__main__":
    sys.exit(main())
