"""What a node asks of its process: open files, and how long a thread may hold the interpreter."""

import resource
import sys


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
