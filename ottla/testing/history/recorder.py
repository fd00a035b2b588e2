"""Writes a history down while it happens: cheap, from any thread, and so that a killed process loses nothing of it.

Each process of a run has a file of its own; `history.read` merges them. An operation is one line, written with one
system call when it has completed. Where the process itself may be killed, `begin` writes the operation before it is
done and `end` writes it again with its outcome: what has no end stays unknown.
"""

import os
import time
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ottla.testing.history.lines import encoded, start_line
from ottla.testing.history.operations import Operation

SUFFIX: Final = ".history"

now_ns = time.monotonic_ns
"""The clock of all operations."""


class Recorder:
    """Appends to one file, named `*.history` for the reader to find it. Raises OSError when it cannot be written."""

    def __init__(self, path: Path, process: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._numbers = count(1)  # its next() is one step under the interpreter's lock
        self._write(start_line(process or path.stem, now_ns()))

    def add(self, operation: Operation) -> None:
        """An operation that has ended, or is given up."""
        self._write(encoded(operation))

    def begin(self, operation: Operation) -> int:
        """One that is about to be done; returns its number for `end`."""
        number = next(self._numbers)
        self._write(encoded(operation, number))
        return number

    def end(self, number: int, operation: Operation) -> None:
        """The same operation, with completion and outcome."""
        self._write(encoded(operation, number))

    def close(self) -> None:
        """Nothing is added any more."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        # Lines of several threads do not mix: the file is opened for appending, and each is one call.
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(f"the history is cut off: {written} of {len(line)} bytes were written")
