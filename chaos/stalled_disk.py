"""Disks of nodes that stop to answer, or fail, for a while: a preloaded object that holds their writes and syncs."""

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
        self._object = directory.absolute() / "stalled_disk.so"
        self._control = directory.absolute() / "stalled"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", self._object, SOURCE, "-ldl"], check=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the cluster is to be started with."""
        return {"LD_PRELOAD": str(self._object), "STALLED_DISK": str(self._control)}

    @contextmanager
    def stalled(self, data: Path) -> Iterator[None]:
        """As long as this lasts, nothing below that directory is written."""
        with self._controlled(f"{data.resolve()}/"):
            yield

    @contextmanager
    def failing(self, data: Path) -> Iterator[None]:
        """As long as this lasts, writes and syncs below that directory fail with EIO."""
        with self._controlled(f"!{data.resolve()}/"):
            yield

    @contextmanager
    def _controlled(self, content: str) -> Iterator[None]:
        new = self._control.with_suffix(".new")
        new.write_text(content)
        new.rename(self._control)
        try:
            yield
        finally:
            self._control.unlink()
