"""Generate `ottla/v1` from `proto/ottla/v1`; with `--check`, only tell whether the committed code is what comes out.

Generated code refuses a runtime older than its generator, so it is made with the oldest grpcio and protobuf that
`pyproject.toml` admits, in an environment of its own (`.venv-proto`), whatever the developer's environment holds.
A protobuf runtime is promised to take code of the major version before its own; hence protobuf 6 here and `<8` there.
"""

import argparse
import difflib
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "proto"
PACKAGE = Path("ottla") / "v1"
ENVIRONMENT = ROOT / ".venv-proto"

# The lower ends of the ranges in pyproject.toml: `make test-oldest` runs the tests against these runtimes.
NEWEST_PYTHON = (3, 13)  # there is no build of these generators for later ones
GENERATORS = ("grpcio==1.72.2", "grpcio-tools==1.72.2", "protobuf==6.30.0", "mypy-protobuf==3.6.0", "setuptools<80")

INIT = '"""Generated from `proto/ottla/v1` by `make proto`; do not edit."""\n'


def generator() -> Path:
    """The Python of an environment that holds exactly the generators above; made when it is missing or out of date."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "generators.txt"
    wanted = "\n".join(GENERATORS)
    if not (stamp.exists() and stamp.read_text() == wanted):
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *GENERATORS], check=True)
        stamp.write_text(wanted)
    return python


def generate(target: Path) -> dict[str, str]:
    """Run protoc into the directory `target`; every generated file's content by its name."""
    python = generator()
    sources = sorted(path.relative_to(PROTO_ROOT).as_posix() for path in (PROTO_ROOT / PACKAGE).glob("*.proto"))
    with_services = [source for source in sources if "\nservice " in (PROTO_ROOT / source).read_text()]
    plugin = f"--plugin=protoc-gen-mypy={ENVIRONMENT / 'bin' / 'protoc-gen-mypy'}"
    plugin_grpc = f"--plugin=protoc-gen-mypy_grpc={ENVIRONMENT / 'bin' / 'protoc-gen-mypy_grpc'}"
    protoc: list[str | Path] = [python, "-m", "grpc_tools.protoc", f"-I{PROTO_ROOT}", plugin, plugin_grpc]
    subprocess.run([*protoc, f"--python_out={target}", f"--mypy_out=quiet:{target}", *sources], check=True)
    subprocess.run(
        [*protoc, f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}", *with_services], check=True
    )
    files = {path.name: path.read_text() for path in (target / PACKAGE).iterdir()}
    files["__init__.py"] = INIT
    return files


def drift(committed: dict[str, str], generated: dict[str, str]) -> list[str]:
    """The lines of a unified diff from what is committed to what is generated."""
    lines: list[str] = []
    for name in sorted(committed.keys() | generated.keys()):
        before, after = committed.get(name, ""), generated.get(name, "")
        lines += difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"committed/{name}", f"generated/{name}", lineterm=""
        )
    return lines


def main() -> int:
    """Exit code 1 when `--check` finds a difference. Where the generators cannot run, `--check` says so and passes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the committed code differs")
    arguments = parser.parse_args()
    if sys.version_info[:2] > NEWEST_PYTHON:
        version = ".".join(map(str, NEWEST_PYTHON))
        sys.stderr.write(f"ottla/v1 can be generated and checked with Python {version} or older only\n")
        return 0 if arguments.check else 1
    home = ROOT / PACKAGE
    committed = {path.name: path.read_text() for path in home.glob("*.py*") if path.is_file()}
    with tempfile.TemporaryDirectory() as directory:
        generated = generate(Path(directory))
    difference = drift(committed, generated)
    if arguments.check:
        if difference:
            sys.stderr.write("\n".join(difference[:200]) + "\nottla/v1 is not what proto/ makes: run `make proto`\n")
        return 1 if difference else 0
    home.mkdir(parents=True, exist_ok=True)
    for name in committed.keys() - generated.keys():
        (home / name).unlink()
    for name, content in generated.items():
        (home / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
