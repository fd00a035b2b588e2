"""Compiles the modules through which every record goes to machine code, with mypyc, when it is asked to:

    OTTLA_COMPILE=1 pip install .      (or `make wheel`)

All else stands in pyproject.toml. Without OTTLA_COMPILE=1 the package is pure Python. In a compiled wheel the sources
lie beside the compiled modules: tracebacks show them, and nobody runs them.
"""

import os
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# A record's way through a node, as profiles show it (docs/benchmarks.md). Whole packages, if possible: between two
# compiled modules a call is one of C, and from a compiled module into an interpreted one it costs more than it did.
COMPILED = (
    "ottla/core/error_codes.py",
    "ottla/core/ports.py",
    "ottla/core/types.py",
    "ottla/core/unsigned_varint.py",
    "ottla/records/*.py",
    "ottla/protocol/api_keys.py",
    "ottla/protocol/apis.py",
    "ottla/protocol/wire.py",
    "ottla/partitions/*.py",
    "ottla/partitions/replication/*.py",
    "ottla/coordinators/runtime/*.py",
    "ottla/coordinators/transactions/*.py",
    "ottla/adapters/clock.py",
    "ottla/adapters/disk.py",
    "ottla/adapters/files.py",
    "ottla/adapters/network.py",
    "ottla/adapters/read_buffers.py",
    "ottla/broker/context.py",
    "ottla/broker/deadlines.py",
    "ottla/broker/fetch*.py",
    "ottla/broker/handlers.py",
    "ottla/broker/leader*.py",
    "ottla/broker/local_partitions.py",
    "ottla/broker/produce.py",
    "ottla/broker/refusals.py",
    "ottla/broker/replicas.py",
    "ottla/broker/transactions/*.py",
    "ottla/kafka/*.py",
)
# At work once in a while, in a process of its own or at a start.
INTERPRETED = {
    f"ottla/partitions/{name}.py"
    for name in ("cleaner", "compaction", "recompression", "recovery", "retention", "trusted_indexes")
}
MYPY = "mypy[mypyc]==2.4.1"  # another one makes other code: measure and test it before it comes here


class CompileModules(build_ext):
    """Makes the extension modules when they are built, and not already when somebody asks for metadata."""

    def finalize_options(self) -> None:
        from mypyc.build import mypycify

        # What is not installed where a wheel is built is of no known type, and its module is not of interest.
        flags = ["--config-file=", "--ignore-missing-imports", "--disable-error-code=import-untyped"]
        self.distribution.ext_modules = mypycify(
            [*flags, *compiled_modules()],
            multi_file=True,  # gcc is busy with all of it in one file for a quarter of an hour
            opt_level="2",
            debug_level="0",
            target_dir=SCRATCH,
            group_name="ottla",
        )
        super().finalize_options()
        if self.inplace:
            raise SystemExit("compiled modules in a checkout would hide what is changed there: build a wheel")


def compiled_modules() -> list[str]:
    """Paths, relative to this file."""
    paths = [str(path) for pattern in COMPILED for path in sorted(Path().glob(pattern))]
    return [path for path in paths if path not in INTERPRETED and not path.endswith("__init__.py")]


if os.environ.get("OTTLA_COMPILE") == "1":
    with tempfile.TemporaryDirectory() as SCRATCH:  # build/ may hold modules of an earlier build
        setup(
            ext_modules=[Extension("ottla__mypyc", [])],
            cmdclass={"build_ext": CompileModules},
            setup_requires=[MYPY],
            options={"build": {"build_base": SCRATCH}},
        )
else:
    setup()
