"""Builds the wheel, installs it with nothing else into an empty environment, starts a cluster from it and uses it.

What a user gets is the wheel: a module or a data file that it lacks shows here and nowhere else.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
LINES = [f"line {number}" for number in range(1000)]


def main() -> int:
    """Exit code 0 when the records came back as they were sent."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        wheel = _build(directory)
        command = _install(directory, wheel)
        # Away from the checkout, so that only what was installed can be imported.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OTTLA"))}
        _round_trip(command, directory, environment)
    sys.stdout.write(f"{wheel.name}: installed, started, {len(LINES)} records written and read back\n")
    return 0


def _build(directory: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", directory, ROOT], check=True, stdout=subprocess.DEVNULL
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def _install(directory: Path, wheel: Path) -> Path:
    venv.create(directory / "empty", with_pip=True)
    python = directory / "empty" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS, wheel], check=True)
    return python.with_name("ottla")


def _round_trip(ottla: Path, directory: Path, environment: dict[str, str]) -> None:
    up = subprocess.Popen(
        [ottla, "up", "--json", "--port", "0", "--dir", directory / "data"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=directory,
    )
    try:
        assert up.stdout is not None
        events = (json.loads(line) for line in up.stdout)
        ready = next(event for event in events if event["event"] == "ready")
        client = {"env": {**environment, "OTTLA_SERVER": ready["grpc"]}, "cwd": directory, "check": True, "text": True}
        subprocess.run([ottla, "produce", "lines"], input="\n".join(LINES) + "\n", **client)  # type: ignore[call-overload]
        consumed = subprocess.run([ottla, "consume", "lines", "--exit"], stdout=subprocess.PIPE, **client)  # type: ignore[call-overload]
        if consumed.stdout.splitlines() != LINES:
            raise SystemExit(f"what was read is not what was written: {consumed.stdout[:200]!r}")
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(20)
        if up.stdout is not None:
            up.stdout.close()
    if code != 0:
        raise SystemExit(f"`ottla up` ended with {code} when it was asked to stop")


if __name__ == "__main__":
    sys.exit(main())
