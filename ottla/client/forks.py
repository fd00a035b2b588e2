"""Which process this is, without the system call of `os.getpid`: `send` asks for each record."""

import os

from ottla.client.errors import ClientForked

_pid = os.getpid()


def pid() -> int:
    """The id of this process."""
    return _pid


def check_not_forked(made_in: int) -> None:
    """Raises ClientForked in a fork of the process that made a client."""
    if made_in != _pid:
        raise ClientForked(made_in, _pid)


def _forked() -> None:
    global _pid
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
