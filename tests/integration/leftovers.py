"""What a command that has ended left running."""

import os
from pathlib import Path


def processes_of(folder: Path) -> list[str]:
    """What runs in or with something of that folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        if int(process.name) != os.getpid() and (str(folder) in words or f"TMPDIR={folder}" in environment):
            found.append(f"{process.name}: {words}")
    return found
