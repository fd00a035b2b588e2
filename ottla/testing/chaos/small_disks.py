"""File systems, one for each node, that can be made to be full: tmpfs, seen only among the run's own mounts."""

import os
import subprocess
from pathlib import Path
from typing import Final

from ottla.testing.chaos.needs import Unavailable
from ottla.testing.chaos.network import is_inside

SIZE_BYTES: Final = 4 << 30
LEFT_BYTES: Final = 64 << 10
_TRIES: Final = 20


class SmallDisks:
    """Those of one run."""

    def __init__(self) -> None:
        """Makes nothing yet. Raises Unavailable outside the run's own mounts."""
        if not is_inside():
            raise Unavailable("disks are mounted among the run's own mounts: call `network.enter` first")
        self._mounted: list[Path] = []

    def mount(self, path: Path) -> None:
        """An empty one. Raises Unavailable."""
        path.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=700", "tmpfs", str(path))
        self._mounted.append(path)

    def fill(self, path: Path) -> None:
        """From now on all but the last blocks of it are taken: the size shrinks to what is used. Raises Unavailable."""
        for attempt in range(_TRIES):
            found = os.statvfs(path)
            used_bytes = (found.f_blocks - found.f_bfree) * found.f_frsize
            try:
                _mount("-o", f"remount,size={used_bytes + LEFT_BYTES}", str(path))
            except Unavailable:
                if attempt == _TRIES - 1:
                    raise
                continue  # somebody writes: more is used by now
            return

    def free(self, path: Path) -> None:
        """There is space again. Raises Unavailable."""
        _mount("-o", f"remount,size={SIZE_BYTES}", str(path))

    def close(self) -> None:
        """Take them away, with all that they hold."""
        for path in self._mounted:
            subprocess.run(["umount", "--lazy", path], capture_output=True)
        self._mounted.clear()


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"`mount {' '.join(arguments)}` failed: {done.stderr.strip()}")
