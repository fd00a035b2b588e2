"""A network of the run's own: each node in a network namespace, all on one bridge, each link cut or slow on demand.

            clients (198.18.0.254, where the run is)
                │ bridge `chaos0`
       ┌────────┼────────┐
      eth0     eth0     eth0          node n: 198.18.0.n
      node 1   node 2   node 3

The run itself first moves into a network and mounts of its own (`enter`), as root or in a user namespace: nothing of
the machine's network is touched, and everything that was made here is gone when its last process is, however it ends.

A link has two directions, and each is closed by the route of its sender: into a device from which nothing comes out
(`hole`), or into the tunnel of `slow_link`, which delays and loses. The kernel needs neither netem nor a packet filter,
and to those who send it is a network that swallows: connections hang, as they do when a cable is pulled. The addresses
are of the block for benchmarks (RFC 2544), which no real network uses. A second cluster has a bridge and addresses of
its own (198.18.1.n); clients, and nobody else, are on both.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Final, NoReturn

from ottla.testing.chaos.needs import NAMESPACES, TUNNELS, Unavailable, unshare
from ottla.testing.chaos.slow_link import Shape, SlowLinks

CLIENTS: Final = 254
"""The place of the clients, beside the numbers of nodes."""
MAX_NODES: Final = 5
OUTSIDE: Final = "OTTLA_CHAOS_OUTSIDE"

Link = tuple[int, int]
"""Sender and receiver: a direction."""


def is_inside() -> bool:
    """Whether this process is in a network that `enter` made."""
    outside = os.environ.get(OUTSIDE)
    return outside is not None and outside != _own_network()


def enter(command: Sequence[str]) -> NoReturn:
    """Become that command, in a network of its own. Raises Unavailable where that cannot be."""
    NAMESPACES.check("a network of the run's own")
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[OUTSIDE] = _own_network()
    words = [*unshare(), *command]
    os.execvp(words[0], words)


def raise_loopback() -> None:
    """A new network has it, but down. Raises Unavailable."""
    _run(["ip", "link", "set", "lo", "up"])


def _own_network() -> str:
    return str(Path("/proc/self/ns/net").readlink())


class Network:
    """One cluster's. `directory`: where the namespaces are mounted, seen by this run alone. `number`: its own."""

    def __init__(self, directory: Path, number: int = 0) -> None:
        """Makes nothing yet. Raises Unavailable outside a network of the run's own."""
        if not is_inside():
            raise Unavailable("faults of the network are made in a network of the run's own: call `enter` first")
        self.directory = directory
        self._number = number
        # At the clients' place are the devices of all clusters.
        self._bridge, self._hole, self._tunnel = f"chaos{number}", f"hole{number}", f"slow{number}"
        self._cut: Counter[Link] = Counter()
        self._slow: dict[Link, Shape] = {}
        self._routes: dict[Link, str] = {}
        self._slow_links: dict[int, SlowLinks] = {}
        self._lock = RLock()

    def create(self) -> None:
        """Make the bridge, and a namespace for each node that there can be."""
        self.directory.mkdir(parents=True, exist_ok=True)
        raise_loopback()
        _run(["ip", "link", "add", self._bridge, "type", "bridge"])
        self._configure(CLIENTS, self._bridge)
        for node in range(1, MAX_NODES + 1):
            self._path(node).touch()
            _run(["unshare", f"--net={self._path(node)}", "true"])
            peer = ["peer", "name", "eth0", "netns", str(self._path(node))]
            end = f"node{self._number}-{node}"
            _run(["ip", "link", "add", end, "type", "veth", *peer])
            _run(["ip", "link", "set", end, "master", self._bridge, "up"])
            _run([*self.entering(str(node)), "ip", "link", "set", "lo", "up"])
            self._configure(node, "eth0")

    def close(self) -> None:
        """Take everything away, in whatever state it is."""
        with self._lock:
            for links in self._slow_links.values():
                links.close()
            self._slow_links.clear()
            self._cut.clear()
            self._slow.clear()
            self._routes.clear()
        for node in range(1, MAX_NODES + 1):
            subprocess.run(["umount", self._path(node)], capture_output=True)
            self._path(node).unlink(missing_ok=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)
        subprocess.run(["ip", "link", "del", self._hole], capture_output=True)

    def address(self, place: int | str) -> str:
        """Of a node, or of the clients."""
        return f"198.18.{self._number}.{place}"

    def entering(self, node: str) -> list[str]:
        """The words before a command that bring it to that node's place."""
        return ["nsenter", f"--net={self.directory / node}", "--"]

    # -- the links

    def cut(self, links: Iterable[Link]) -> None:
        """Nothing gets through these, in these directions, until each was mended as often as it was cut."""
        with self._lock:
            for link in links:
                self._cut[link] += 1
                self._route(link)

    def mend(self, links: Iterable[Link]) -> None:
        """Undo one `cut` of each."""
        with self._lock:
            for link in links:
                self._cut[link] = max(0, self._cut[link] - 1)
                self._route(link)

    def slow(self, links: Iterable[Link], shape: Shape) -> None:
        """What goes over these is delayed and lost as `shape` says. Raises Unavailable."""
        TUNNELS.check("a slow link")
        with self._lock:
            for link in links:
                self._slow[link] = shape
                self._route(link)

    def speed(self, links: Iterable[Link]) -> None:
        """Undo `slow`."""
        with self._lock:
            for link in links:
                self._slow.pop(link, None)
                self._route(link)

    @contextmanager
    def without(self, links: Iterable[Link]) -> Iterator[None]:
        """As long as this lasts they are cut."""
        held = list(links)
        self.cut(held)
        try:
            yield
        finally:
            self.mend(held)

    def _route(self, link: Link) -> None:
        """Send that direction where it should go now."""
        sender, receiver = link
        wanted = self._hole if self._cut[link] else self._tunnel if link in self._slow else ""
        if wanted == self._tunnel:
            self._shaped(sender).shape(self.address(receiver), self._slow[link])
        if wanted == self._routes.get(link, ""):
            return
        route = ["ip", "route", "replace" if wanted else "del", f"{self.address(receiver)}/32"]
        if wanted:
            route += ["dev", wanted, "src", self.address(sender)]
        _run([*self._at(sender), *route])
        self._routes[link] = wanted

    def _shaped(self, sender: int) -> SlowLinks:
        if sender not in self._slow_links:
            device = self._bridge if sender == CLIENTS else "eth0"
            _run([*self._at(sender), "ip", "tuntap", "add", self._tunnel, "mode", "tun"])
            _run([*self._at(sender), "ip", "link", "set", self._tunnel, "up"])
            self._slow_links[sender] = SlowLinks(self._at(sender), tunnel=self._tunnel, device=device)
        return self._slow_links[sender]

    # -- its parts

    def _configure(self, place: int, device: str) -> None:
        at = self._at(place)
        _run([*at, "ip", "address", "add", f"{self.address(place)}/24", "dev", device])
        _run([*at, "ip", "link", "set", device, "up"])
        _run([*at, "ip", "link", "add", self._hole, "type", "bridge"])
        _run([*at, "ip", "link", "set", self._hole, "arp", "off", "up"])
        # An answer may come although its way back is closed.
        for which in ("all", "default", device):
            _run([*at, "sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{which}/rp_filter"])

    def _at(self, place: int) -> list[str]:
        return [] if place == CLIENTS else self.entering(str(place))

    def _path(self, node: int) -> Path:
        return self.directory / str(node)


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"`{' '.join(words)}` failed: {done.stderr.strip()}")
