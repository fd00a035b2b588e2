"""What a nemesis needs of the machine, looked at before anything is started, and what to do when it lacks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ottla.core.errors import OttlaError


class Unavailable(OttlaError):
    """What was asked for cannot be done on this machine as it is; says what to change."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing. `lacking`: None, or what to install or allow, as the end of a sentence."""

    name: str
    lacking: Callable[[], str | None]

    def check(self, whose: str) -> None:
        """Raises Unavailable when it lacks."""
        lacking = self.lacking()
        if lacking is not None:
            raise Unavailable(f"{whose} needs {self.name}: {lacking}")


def command(name: str, package: str) -> Need:
    """A program on the path, and the package in which distributions have it."""

    def lacking() -> str | None:
        return None if shutil.which(name) else f"install {package}"

    return Need(f"`{name}`", lacking)


def _no_linux() -> str | None:
    return None if sys.platform == "linux" else "it is done with what only Linux has"


def _no_namespaces() -> str | None:
    if reason := _no_linux():
        return reason
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if not shutil.which(program):
            return f"install {package} (`{program}` is not on the path)"
    tried = subprocess.run([*unshare(), "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    if os.geteuid() == 0:
        return f"this root may make none ({tried.stderr.strip()}): a container wants CAP_SYS_ADMIN and CAP_NET_ADMIN"
    return (
        f"{tried.stderr.strip()}. Run it as root, or allow unprivileged user namespaces (sysctl "
        "kernel.unprivileged_userns_clone=1; with AppArmor also kernel.apparmor_restrict_unprivileged_userns=0)"
    )


def unshare() -> list[str]:
    """The words before a command that give it a network and mounts of its own, as root or in a user namespace."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--"]


def _no_tunnels() -> str | None:
    if os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return None
    return "it is missing or not yours to open: run as root, or `modprobe tun` and allow /dev/net/tun"


LINUX: Final = Need("Linux", _no_linux)
NAMESPACES: Final = Need("network namespaces", _no_namespaces)
TUNNELS: Final = Need("/dev/net/tun", _no_tunnels)
