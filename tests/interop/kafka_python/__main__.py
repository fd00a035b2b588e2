"""Runs kafka-python's own integration tests against three nodes: `make interop-kafka-python`.

They come with the source distribution, of which the version and its hash are pinned. Two files that it leaves out are
ours (`support/`). `expected.toml` holds the tests that are known not to pass, with reasons. What fails beside them runs
up to twice more, since many of the limits are of a second; exit code 1 when it never passes, or when a known failure
does.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ottla.testing.cluster import Cluster
from tests.interop.kafka_python.verdict import Verdict, judge, read_known, read_outcomes

HERE = Path(__file__).parent
REQUIREMENT = "kafka-python==3.0.12 --hash=sha256:4ccda3616b9aa5c353d74a97f2770d6cd1b950890d77ab0e8890e09a48eeed65\n"
SPEAKS = "4.3"
"""The version of Kafka whose tests run: the one whose protocol Ottla speaks."""
SETTINGS = {"num.partitions": 4}
"""As the suite configures its own brokers."""
TESTS = "test/integration"
RUNS = 3


def main() -> int:
    """Exit code 1 when something is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--bootstrap", help="host:port of a running cluster, e.g. of Apache Kafka; without it: a new one"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kafka-python-") as directory:
        suite = unpack(Path(directory))
        if arguments.bootstrap:
            verdict = run(suite, arguments.bootstrap)
        else:
            with Cluster(nodes=3, settings=SETTINGS) as cluster:
                verdict = run(suite, cluster.bootstrap.split(",")[0])
    return tell(verdict)


def unpack(directory: Path) -> Path:
    """The suite, as it was published, with our two files."""
    requirements = directory / "requirements.txt"
    requirements.write_text(REQUIREMENT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "kafka-python", "--require-hashes", "--dest", str(directory)]
    subprocess.run([*command, "--requirement", str(requirements)], check=True)
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    suite = directory / archive.name.removesuffix(".tar.gz")
    for ours in (HERE / "support").glob("*.py"):
        shutil.copy(ours, suite / "test")
    (suite / "no-broker").mkdir()  # where it looks for Kafka's own scripts
    return suite


def run(suite: Path, bootstrap: str) -> Verdict:
    """All tests, and again those that failed though they are known to pass."""
    known = read_known(HERE / "expected.toml")
    outcomes: dict[str, str] = {}
    again = [TESTS]
    for _ in range(RUNS):
        outcomes |= run_tests(suite, bootstrap, again)
        again = [f"{TESTS}/{name}" for name in judge(outcomes, known).unexpected]
        if not again:
            break
    return judge(outcomes, known)


def run_tests(suite: Path, bootstrap: str, tests: list[str]) -> dict[str, str]:
    """The outcome of each; raises RuntimeError when pytest itself broke."""
    report = suite / "report.xml"
    report.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"KAFKA_URI": f"kafka://{bootstrap}", "KAFKA_VERSION": SPEAKS}
    environment |= {"KAFKA_ROOT": str(suite / "no-broker"), "PYTHONPATH": str(suite)}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--show-capture=no", "--disable-warnings"]
    command += ["-p", "no:cacheprovider", "-p", "no:ottla", f"--junitxml={report}"]
    done = subprocess.run([*command, *tests], cwd=suite, env=environment)
    if done.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"pytest ended with exit code {done.returncode}")
    return read_outcomes(report)


def tell(verdict: Verdict) -> int:
    """Print what is not as expected, then the counts; the exit code."""
    known = read_known(HERE / "expected.toml")
    lines = [f"known:      {name}: {reason}" for name, reason in known.items()]
    lines += [f"UNEXPECTED: {name} failed" for name in verdict.unexpected]
    lines += [f"UNEXPECTED: {name} passes: take it from expected.toml" for name in verdict.mended]
    lines += [f"UNEXPECTED: {name} did not run, though expected.toml names it" for name in verdict.missing]
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(verdict.counts.items()))
    sys.stdout.write("\n".join(["", *lines, f"kafka-python's suite: {counts}", ""]))
    return 0 if verdict.is_as_expected else 1


if __name__ == "__main__":
    sys.exit(main())
