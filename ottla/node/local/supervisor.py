"""Starts, watches and stops the nodes of a local cluster: one thread, which waits for their pipes, for signals and for
commands.

`run` goes through: starting (until each node said that it is ready), running (until a signal or a command, or until no
node is left), stopping (until all have ended). When the only node ends by itself, or one while the cluster starts, so
does the cluster; of several, the others go on without the one that ended. A node that ended on command is no reason to
end: it can be started again.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from ottla.core.errors import OttlaError
from ottla.node.founding import found
from ottla.node.local.child import Child, NodeFailed, RunningNode, State
from ottla.node.local.commands import Commands
from ottla.node.local.control import ControlSocket, claim
from ottla.node.local.members import found_members, write_members
from ottla.node.local.ports import Ports
from ottla.node.local.spec import ClusterSpec

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


class View(Protocol):
    """Whoever shows what happens."""

    refresh_s: float | None
    """How often `refresh` is called; None: never."""

    def ready(self, nodes: Sequence[RunningNode]) -> None:
        """A write with acks=all would succeed."""

    def changed(self, number: int, state: State, detail: str) -> None:
        """A node's state, once the cluster was ready."""

    def refresh(self, nodes: Sequence[Mapping[str, object]]) -> None:
        """All that is known of the nodes, as `ottla status --json` tells it."""

    def close(self) -> None:
        """Nothing happens any more."""


class Supervisor:
    """One cluster's. `log`: the file for the nodes' logs, which otherwise go to standard error."""

    def __init__(self, spec: ClusterSpec, view: View, *, log: Path | None = None) -> None:
        self.children: dict[int, Child] = {}
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        self.started_at = time.monotonic()
        self.directory = spec.directory
        self._spec, self._view = spec, view
        self._log, self._log_fd = log, sys.stderr.fileno()
        self._stopping = self._over = self._announced = False
        self._shown: dict[int, State] = {}
        self._failure: OttlaError | None = None
        self._refresh_at = 0.0

    def run(self) -> None:
        """Run the cluster until it is told to stop; raises NodeFailed, ConfigError, AlreadyRunning."""
        self._spec.validate()
        with claim(self.directory):
            if self._log is not None:
                self._log_fd = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._ports = Ports(self.directory)
            self._places = self._spec.places(self._ports)
            self._spec.make_certificates()
            without = self._spec.without
            found([place for place in self._places if place.node_id not in without], fresh=self._spec.fresh)
            found_members(self.directory, self.members, fresh=self._spec.fresh)
            self._commands = Commands(self)
            with ControlSocket(self.directory, self.selector, self._commands.take), _Signals() as signals:
                try:
                    self.selector.register(signals, selectors.EVENT_READ, lambda: self._signalled(signals))
                    for place in self._places:
                        if place.node_id not in without:
                            self.start(place.node_id)
                    self._watch()
                finally:
                    for child in self.children.values():
                        child.close()
                    self._view.close()
                    self.selector.close()
        if self._failure is not None:
            raise self._failure

    # -- what commands use

    def start(self, number: int) -> Child:
        """Start a node's process, for the first time or again, where it was."""
        old = self.children.get(number)
        if old is not None:
            old.close()
        spec = self._spec
        settings = spec.node_settings(number, self._places, self._ports)
        child = self.children[number] = Child(
            number,
            settings,
            spec.kafka,
            str(spec.file) if spec.file else None,
            self._log_fd,
            before=spec.command_before(number),
        )
        self.selector.register(child.status_fd, selectors.EVENT_READ, lambda: self._heard(child))
        return child

    @property
    def members(self) -> list[int]:
        """The numbers of its nodes, also of those that never started."""
        return [int(place.node_id) for place in self._places]

    @property
    def tls_ca(self) -> str | None:
        """With what clients check the nodes' certificates; None: they speak plain text."""
        certificates = self._spec.certificates
        return None if certificates is None else str(certificates.ca)

    def directory_of(self, number: int) -> Path:
        """Where a node keeps its data."""
        return self._spec.node_directory(number)

    def add(self, number: int) -> Child:
        """Start a node that was formatted for this cluster; it is one of its nodes from now on."""
        if number not in self.members:
            self._places.append(self._spec.place(number, self._ports))
            write_members(self.directory, self.members)
        return self.start(number)

    def forget(self, number: int) -> None:
        """A node that has ended is none of the cluster's any more."""
        child = self.children.pop(number, None)
        if child is not None:
            child.close()
        self._shown.pop(number, None)
        self._places = [place for place in self._places if place.node_id != number]
        write_members(self.directory, self.members)

    def stop_all(self) -> None:
        """Stop cleanly; asked again, at once."""
        hard, self._stopping = self._stopping, True
        for child in self.children.values():
            if hard:
                child.kill()
            else:
                child.stop(together=True)
        self._over = not any(child.alive for child in self.children.values())

    # -- the loop

    def _watch(self) -> None:
        while not self._over:
            for key, _ in self.selector.select(self._timeout_s()):
                key.data()
            self._settle()

    def _timeout_s(self) -> float | None:
        due = self._commands.due
        if self._announced and self._view.refresh_s is not None:
            due = min(due, self._refresh_at)
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    def _settle(self) -> None:
        """After whatever happened: tell the view, answer commands."""
        if self._announced:
            self._show_changes()
            self._refresh()
        self._commands.settle()

    def _show_changes(self) -> None:
        for number, child in self.children.items():
            state = child.state
            if self._shown.get(number) is not state:
                self._shown[number] = state
                self._view.changed(number, state, "" if child.alive else child.end)

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._view.refresh_s is not None and now >= self._refresh_at:
            self._refresh_at = now + self._view.refresh_s
            self._view.refresh(self._commands.nodes())
            for child in self.children.values():
                child.ask_standing()

    def _signalled(self, signals: "_Signals") -> None:
        for number in signals.take():
            if number == signal.SIGCHLD:
                for child in self.children.values():
                    child.look()
            else:
                self.stop_all()

    def _heard(self, child: Child) -> None:
        if not child.read():
            self.selector.unregister(child.status_fd)
            self._ended(child)
        elif child.ready is not None and child.ports and child.state is State.RUNNING:
            self._ports.learn(child.number, child.ports)
            if self._announced:
                self._ports.save()  # it may have been added
            if not self._announced and not self._stopping:
                self._announce()

    def _announce(self) -> None:
        alive = [child for child in self.children.values() if child.alive]
        ready = [child.ready for child in alive if child.ready is not None]
        if len(ready) == len(alive):
            self._announced = True
            self._ports.save()
            self._shown = {number: child.state for number, child in self.children.items()}
            self._view.ready(ready)

    def _ended(self, child: Child) -> None:
        child.reap()
        anyone = any(other.alive for other in self.children.values())
        if self._stopping:
            self._over = not anyone
        elif not child.end_was_asked:
            if self._announced and (anyone or child.ready is None):
                self._go_on_without(child)
            else:
                when = "ended by itself" if child.ready else "ended while it started"
                log = f"; its log is {self._log}" if self._log is not None else ""
                self._failure = child.error or NodeFailed(f"node {child.number} {when} ({child.end}){log}")
                self.stop_all()

    def _go_on_without(self, child: Child) -> None:
        why = f": {child.error}" if child.error is not None else ""
        sys.stderr.write(f"ottla: node {child.number} ended ({child.end}){why}; `ottla node start` starts it again\n")
        sys.stderr.flush()


class _Signals:
    """Signals as bytes on a socket, so that the loop waits for them beside everything else."""

    def __enter__(self) -> "_Signals":
        self._reads, self._writes = socket.socketpair()
        self._reads.setblocking(False)
        self._writes.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
        # The descriptor carries the signal; a handler has to stand for it to be written.
        handler: Callable[[int, object], None] = lambda number, frame: None  # noqa: E731
        self._previous = {number: signal.signal(number, handler) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._reads.close()
        self._writes.close()

    def fileno(self) -> int:
        return self._reads.fileno()

    def take(self) -> bytes:
        """The signals that came."""
        return os.read(self._reads.fileno(), 256)
