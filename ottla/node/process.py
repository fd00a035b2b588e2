"""The process around a node: its event loop, its signals, its exit code.

A first SIGINT or SIGTERM, or the end of the parent, stops the node cleanly; a second one ends it at once, which costs
nothing that was acknowledged: the next start recovers as after a crash.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ConfigError, OttlaError
from ottla.node.config import NodeConfig
from ottla.node.lifeline import die_with_parent, report, watch_parent
from ottla.node.limits import raise_open_files, set_switch_interval
from ottla.node.questions import ASK_STANDING, STOP_TOGETHER

if TYPE_CHECKING:
    from ottla.node.node import Node

EXIT_CLEAN = 0
EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_HARD_STOP = 3

# Requests leave no cycles behind, so the collector has little to find; by default it would look every 700 objects.
GC_THRESHOLD = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """How a supervising process is reached: it watches `status_fd` and holds the other end of `lifeline_fd`."""

    pid: int
    lifeline_fd: int
    status_fd: int


def run(config: NodeConfig, *, fresh: bool = False, parent: Parent | None = None) -> int:
    """Run one node until it is told to stop; the process's exit code."""
    if parent is not None:
        die_with_parent(parent.pid)
    raise_open_files(config.open_files)
    set_switch_interval(config.gil_switch_interval_us)
    try:
        with asyncio.Runner(loop_factory=_new_loop()) as runner:
            return runner.run(_Life(config, fresh=fresh, parent=parent).live())
    except (OttlaError, OSError) as error:
        _failed(error, parent)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED


def _new_loop() -> "type[asyncio.AbstractEventLoop] | None":
    if sys.platform == "win32":
        return None
    import uvloop

    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


def _failed(error: Exception, parent: Parent | None) -> None:
    if parent is None:
        sys.stderr.write(f"ottla: {error}\n")
    else:
        report_failure(parent, error)


def report_failure(parent: Parent, error: Exception) -> None:
    """Tell the parent why this node does not run; a wrong configuration is told apart."""
    report(parent.status_fd, {"event": "failed", "error": str(error), "is_config": isinstance(error, ConfigError)})


class _Life:
    """From start to stop of one node in this process."""

    def __init__(self, config: NodeConfig, *, fresh: bool, parent: Parent | None) -> None:
        self._config, self._fresh, self._parent = config, fresh, parent
        self._stop = asyncio.Event()
        self._node: Node | None = None
        self._together = self._failed = False

    async def live(self) -> int:
        from ottla.node.logs import configure

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ask_to_stop, signal.Signals(number).name)
        if self._parent is not None:
            watch_parent(loop, self._parent.lifeline_fd, lambda: self._ask_to_stop("the parent ended"), self._asked)
        configure(self._config.log_level, self._config.log_format, self._config.node_id)

        from ottla.node.node import Node

        node = self._node = Node(self._config, fresh=self._fresh, on_fatal=self._fatal)
        try:
            await self._unless_stopped(self._start(node))
            await self._stop.wait()
        finally:
            await node.stop(together=self._together or self._failed)
        return EXIT_FAILED if self._failed else EXIT_CLEAN

    async def _unless_stopped(self, start: Coroutine[Any, Any, None]) -> None:
        """A start lasts as long as a majority of the cluster is away: whoever is told to stop does not wait for it."""
        starting, stop = asyncio.ensure_future(start), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            starting.cancel()  # does nothing to one that has ended
            await asyncio.wait((starting,))
        if not starting.cancelled():
            starting.result()

    async def _start(self, node: "Node") -> None:
        await node.start()
        if self._parent is not None:
            report(self._parent.status_fd, {"event": "ready", "ports": node.ports(), **node.addresses()})
        # What the start has made stays: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)

    def _asked(self, questions: bytes) -> None:
        if STOP_TOGETHER in questions:
            self._together = True
        if ASK_STANDING in questions and self._parent is not None:
            standing = self._node.standing() if self._node is not None else None
            report(self._parent.status_fd, {"event": "standing", "standing": standing})

    def _fatal(self, error: Exception) -> None:
        """What is wrong was logged where it was found; an unclean stop costs nothing that was acknowledged."""
        sys.stderr.write(f"ottla: this node cannot go on and stops: {error}\n")
        sys.stderr.flush()
        self._failed = True
        self._stop.set()

    def _ask_to_stop(self, reason: str) -> None:
        if self._stop.is_set():
            sys.stderr.write(f"ottla: {reason} again: ending at once\n")
            sys.stderr.flush()
            os._exit(EXIT_HARD_STOP)
        self._stop.set()
