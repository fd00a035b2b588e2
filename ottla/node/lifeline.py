"""A node ends when the process that started it does, and tells it how it fares.

The parent keeps one end of a pipe, whose closing the node's loop sees: that works everywhere, also when the parent was
killed. Linux's parent-death signal covers a node whose loop is stuck. On that pipe the parent asks with single bytes
(`questions`); events go back as JSON, one object a line.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping

PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask Linux to kill this process when its parent ends; end at once when it did already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)  # it died before we could ask


def watch_parent(
    loop: asyncio.AbstractEventLoop,
    descriptor: int,
    gone: Callable[[], None],
    asked: Callable[[bytes], None] = lambda questions: None,
) -> None:
    """Call `gone` once the other end of the pipe `descriptor` is closed, `asked` with the bytes that come before."""

    def readable() -> None:
        questions = os.read(descriptor, 64)
        if questions:
            asked(questions)
        else:
            loop.remove_reader(descriptor)
            gone()

    loop.add_reader(descriptor, readable)


def report(descriptor: int, event: Mapping[str, object]) -> None:
    """Tell the parent; a parent that is gone or no longer listens is no error of ours."""
    try:
        os.write(descriptor, json.dumps(event, separators=(",", ":")).encode() + b"\n")
    except BrokenPipeError:
        return
