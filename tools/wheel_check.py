"""Builds the wheel, installs it with nothing else into an empty environment, starts a cluster from it and uses it.

What a user gets is the wheel: a module or a data file that it lacks shows here and nowhere else. With --compiled it is
the wheel of which `setup.py` tells, and three nodes.
"""

import argparse
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--compiled", action="store_true", help="the compiled wheel")
    parser.add_argument("--wheel", type=Path, help="this one, which is there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        wheel = options.wheel or _build(directory, compiled=options.compiled)
        # Away from the checkout, so that only what was installed can be imported, and pip takes nothing for installed.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OTTLA"))}
        command = _install(directory, wheel, environment)
        _check_version(command, environment, compiled=options.compiled)
        _round_trip(command, directory, environment, nodes=3 if options.compiled else 1)
    sys.stdout.write(f"{wheel.name}: installed, started, {2 * len(LINES)} records written and read back\n")
    return 0


def _build(directory: Path, *, compiled: bool) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", directory, ROOT],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OTTLA_COMPILE": str(int(compiled))},
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def _install(directory: Path, wheel: Path, environment: dict[str, str]) -> Path:
    venv.create(directory / "empty", with_pip=True)
    python = directory / "empty" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), str(wheel)]
    subprocess.run(install, check=True, env=environment)
    return python.with_name("ottla")


def _check_version(ottla: Path, environment: dict[str, str], *, compiled: bool) -> None:
    said = subprocess.run([ottla, "--version"], check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    if ("(compiled)" if compiled else "(interpreted)") not in said:
        raise SystemExit(f"the installed command says: {said.strip()}")


def _round_trip(ottla: Path, directory: Path, environment: dict[str, str], *, nodes: int) -> None:
    up = subprocess.Popen(
        [ottla, "up", "--json", "--nodes", str(nodes), "--port", "0", "--dir", directory / "data"],
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
        lines = "\n".join(LINES) + "\n"
        for topic, options in (("lines", ()), ("whole", ("--transactional-id", "import-1"))):
            subprocess.run([ottla, "produce", topic, *options], input=lines, **client)  # type: ignore[call-overload]
            read = subprocess.run([ottla, "consume", topic, "--exit"], stdout=subprocess.PIPE, **client)  # type: ignore[call-overload]
            if sorted(read.stdout.splitlines()) != sorted(LINES):
                raise SystemExit(f"what was read of {topic} is not what was written: {read.stdout[:200]!r}")
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(20)
        if up.stdout is not None:
            up.stdout.close()
    if code != 0:
        raise SystemExit(f"`ottla up` ended with {code} when it was asked to stop")


if __name__ == "__main__":
    sys.exit(main())
