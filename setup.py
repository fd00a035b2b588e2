"""Compiles the modules through which every record goes to machine code, with mypyc, when it is asked to:

    OTTLA_COMPILE=1 pip install .      (or `make wheel`)

With OTTLA_PROFILE=DIRECTORY the C and its objects stay in that directory. While it holds no profile (of gcc: *.gcda),
the modules are made to write one there as they are used; when it does, the C compiler arranges them by it
(`tools/compiled_wheel.py`).

All else stands in pyproject.toml. Without OTTLA_COMPILE=1 the package is pure Python. In a compiled wheel the sources
lie beside the compiled modules: tracebacks show them, and nobody runs them. MAX_JOBS says how many C compilers run at a
time (else as many as there are processors); pip shows how far it is only with --verbose.
"""

import logging
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    "ottla/broker/control/asking.py",
    "ottla/broker/control/calls.py",
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
# mypyc's functions call each other by name across a hundred files: without these, each time by way of a table, in case
# that another library has one of the same name.
DIRECT_CALLS = ["-fvisibility=hidden", "-fno-plt", "-fno-semantic-interposition"]
RECORD = ["-fprofile-generate"]
BY_PROFILE = ["-fprofile-use", "-fprofile-partial-training", "-Wno-missing-profile", "-Wno-coverage-mismatch"]
MYPY = "mypy[mypyc]==2.4.1"  # another one makes other code: measure and test it before it comes here


class CompileModules(build_ext):
    """Makes the extension modules when they are built, and not already when somebody asks for metadata."""

    def finalize_options(self) -> None:
        from mypyc.build import mypycify

        self.began = time.monotonic()
        self._tell(f"translating {len(compiled_modules())} modules to C with mypyc")
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
        for extension in self.distribution.ext_modules:  # warnings are for who makes the C, not for who installs it
            extension.extra_compile_args.append("-Wno-error")
            if sys.platform == "linux":
                extension.extra_compile_args += DIRECT_CALLS
                extension.extra_link_args.append("-Wl,-Bsymbolic")
            if PROFILE and any(Path(PROFILE).rglob("*.gcda")):
                extension.extra_compile_args += BY_PROFILE
            elif PROFILE:
                extension.extra_compile_args += RECORD
                extension.extra_link_args += RECORD
        super().finalize_options()
        self.parallel = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        if self.inplace:
            raise SystemExit("compiled modules in a checkout would hide what is changed there: build a wheel")

    def build_extensions(self) -> None:
        """With several compilers at a time also for the one library that holds it all; the largest files first."""
        compile_some = self.compiler.compile
        total = len({source for extension in self.extensions for source in extension.sources})
        made: list[str] = []

        def compile_one(source: str, arguments: dict[str, Any]) -> str:
            [made_of_it] = compile_some([source], **arguments)
            made.append(made_of_it)
            if len(made) % 20 == 0 or len(made) == total:
                self._tell(f"{len(made)} of {total} files of C are compiled")
            return str(made_of_it)

        def compile_all(sources: list[str], **arguments: Any) -> list[str]:
            largest_first = sorted(sources, key=lambda source: -Path(source).stat().st_size)
            return list(pool.map(lambda source: compile_one(source, arguments), largest_first))

        with ThreadPoolExecutor(self.parallel) as pool:
            self._tell(f"compiling {total} files of C, {self.parallel} at a time")
            logging.getLogger().setLevel(logging.WARNING)  # setuptools shows a thousand characters for each of them
            self.compiler.compile = compile_all
            super().build_extensions()

    def _tell(self, what: str) -> None:
        print(f"ottla: {time.monotonic() - self.began:3.0f} s: {what}", flush=True)  # noqa: T201


def compiled_modules() -> list[str]:
    """Paths, relative to this file."""
    paths = [str(path) for pattern in COMPILED for path in sorted(Path().glob(pattern))]
    return [path for path in paths if path not in INTERPRETED and not path.endswith("__init__.py")]


PROFILE = os.environ.get("OTTLA_PROFILE")
if os.environ.get("OTTLA_COMPILE") == "1":
    with tempfile.TemporaryDirectory() as temporary:  # build/ may hold modules of an earlier build
        SCRATCH = PROFILE or temporary
        setup(
            ext_modules=[Extension("ottla__mypyc", [])],
            cmdclass={"build_ext": CompileModules},
            setup_requires=[MYPY],
            options={"build": {"build_base": SCRATCH}},
        )
else:
    setup()
