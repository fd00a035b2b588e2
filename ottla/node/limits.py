"""What a node asks of its process and of its machine: open files, how long a thread may hold the interpreter, which
start of the operating system this is.
"""

import resource
import subprocess
import sys
from pathlib import Path


def raise_open_files(wanted: int) -> int:
    """Raise the soft limit of open files towards `wanted`; the limit in force afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (ValueError, OSError):
            return soft  # macOS refuses more than kern.maxfilesperproc although the hard limit says unlimited
        return target
    return soft


def set_switch_interval(microseconds: int) -> None:
    """See `gil_switch_interval_us`."""
    sys.setswitchinterval(microseconds / 1e6)


def boot_id() -> str:
    """Of the operating system, new at each of its starts; empty when it does not tell."""
    try:
        if sys.platform == "darwin":
            return subprocess.check_output(["sysctl", "-n", "kern.bootsessionuuid"], text=True).strip()
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, subprocess.SubprocessError):
        return ""
