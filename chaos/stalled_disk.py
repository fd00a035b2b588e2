"""Disks of nodes that for a while do not answer, are slow, or fail: a preloaded object that holds what reaches them."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")


class StallableDisks:
    """Of the nodes of one cluster. Linux with gcc. `directory`: where the object and what controls it are put."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.object = directory.absolute() / "stalled_disk.so"
        self._control = directory.absolute() / "stalled"
        self._lines: list[str] = []
        if not self.object.exists():
            subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", self.object, SOURCE, "-ldl"], check=True)

    @property
    def variables(self) -> Mapping[str, str]:
        """What the object wants to find in the environment."""
        return {"STALLED_DISK": str(self._control)}

    @property
    def environment(self) -> Mapping[str, str]:
        """What the cluster is to be started with."""
        return {"LD_PRELOAD": str(self.object), **self.variables}

    @contextmanager
    def stalled(self, data: Path) -> Iterator[None]:
        """As long as this lasts, nothing below that directory is written."""
        with self._during("stall", data):
            yield

    @contextmanager
    def failing(self, data: Path) -> Iterator[None]:
        """As long as this lasts, writes and syncs below that directory fail with EIO."""
        with self._during("fail", data):
            yield

    def begin(self, what: str, data: Path) -> str:
        """`stall`, `fail`, `unreadable` or `slow:MS`, below that directory; the line that `end` takes."""
        line = f"{what} {data.resolve()}/"
        self._lines.append(line)
        self._write()
        return line

    def end(self, line: str) -> None:
        """Undo it."""
        self._lines.remove(line)
        self._write()

    @contextmanager
    def _during(self, what: str, data: Path) -> Iterator[None]:
        line = self.begin(what, data)
        try:
            yield
        finally:
            self.end(line)

    def _write(self) -> None:
        if not self._lines:
            self._control.unlink(missing_ok=True)
            return
        new = self._control.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in self._lines))
        new.rename(self._control)
