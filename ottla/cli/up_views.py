"""How `ottla up` shows what happens: JSON lines for programs, plain lines, or a live table in a terminal.

The form of the JSON lines is a contract with the programs that read them; some stop reading after `ready`, so what
comes later is dropped when nobody takes it.
"""

import os
import select
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ottla.cli.output import print_json
from ottla.node.certificates import Certificates
from ottla.node.local.asking import rates
from ottla.node.local.child import RunningNode, State

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

REFRESH_S: Final = 1.0
NODE_COLUMNS: Final = ("node", "pid", "kafka", "grpc", "http", "data")


class JsonView:
    """One object a line on standard output."""

    refresh_s: float | None = None

    def __init__(self, tls: Certificates | None) -> None:
        self._tls = tls
        self._is_read = True

    def ready(self, nodes: Sequence[RunningNode]) -> None:
        """The contract's second line."""
        print_json(ready_event(nodes, self._tls))

    def changed(self, number: int, state: State, detail: str) -> None:
        """A node's new state."""
        event: dict[str, object] = {"event": "node", "id": number, "state": str(state)}
        if detail:
            event["detail"] = detail
        descriptor = sys.stdout.fileno()
        try:
            if self._is_read and select.select([], [descriptor], [], 0)[1]:
                print_json(event)
        except OSError:
            self._is_read = False

    def refresh(self, nodes: Sequence[Mapping[str, object]]) -> None:
        """Programs ask: `ottla status --json`."""

    def close(self) -> None:
        """Nothing is open."""


_STANDS_ABOVE: Final = ("kafka", "grpc")
_FIRST_LEFT_OUT: Final = ("repl. out/s", "repl. in/s", "pid", "up", "out/s", "in/s", "led")
"""Of the live table, in a terminal that is too narrow for all columns."""


class PlainView:
    """The addresses once, then a line for each change."""

    refresh_s: float | None = None

    def __init__(self, started_at: float, tls: Certificates | None) -> None:
        self._started_at, self._tls = started_at, tls

    def ready(self, nodes: Sequence[RunningNode]) -> None:
        """Where the nodes are."""
        show_ready(nodes, time.time() - self._started_at, "Ctrl-C stops it; the data stays.", self._tls)

    def changed(self, number: int, state: State, detail: str) -> None:
        """One line."""
        click.echo(f"node {number} is {state}" + (f" ({detail})" if detail and state is not State.STOPPED else ""))

    def refresh(self, nodes: Sequence[Mapping[str, object]]) -> None:
        """Nothing is live here."""

    def close(self) -> None:
        """Nothing is open."""


class LiveView(PlainView):
    """The plain view's lines, and a table below them that is drawn again every second."""

    refresh_s: float | None = REFRESH_S

    def __init__(self, started_at: float, tls: Certificates | None, log: Path | None) -> None:
        """`log`: where the nodes' logs go, when they do not go to the terminal."""
        super().__init__(started_at, tls)
        where = "" if log is None else f" The nodes' logs: {log}"
        click.echo(f"Starting.{where}")
        self._live: Live | None = None
        self._before: dict[int, Mapping[str, Any]] = {}

    def ready(self, nodes: Sequence[RunningNode]) -> None:
        """The same, and the table begins."""
        from rich.live import Live

        super().ready(nodes)
        click.echo()
        self._live = Live(auto_refresh=False, redirect_stdout=True, redirect_stderr=True)
        self._live.start()

    def refresh(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Draw the table."""
        if self._live is not None:
            self._live.update(live_table(nodes, self._before, self._live.console), refresh=True)
        self._before = {node["id"]: node for node in nodes}

    def close(self) -> None:
        """The last table stays on the screen."""
        if self._live is not None:
            self._live.stop()


def live_table(
    nodes: Sequence[Mapping[str, Any]], before: Mapping[int, Mapping[str, Any]], console: "Console"
) -> "Table":
    """A row for each node, in as many columns as fit unfolded; rates since `before`."""
    from ottla.cli.node_rows import COLUMNS, row
    from ottla.cli.output import table

    rows = [row(node, rates(before.get(node["id"]), node)) for node in nodes]
    shown = [name for name in COLUMNS if name not in _STANDS_ABOVE]
    left_out = list(_FIRST_LEFT_OUT)
    while True:
        made = table(shown, [[cells[COLUMNS.index(name)] for name in shown] for cells in rows])
        wanted = console.measure(made, options=console.options.update(width=10_000)).maximum
        if not left_out or wanted <= console.width:
            return made
        shown.remove(left_out.pop(0))


def ready_event(nodes: Sequence[RunningNode], tls: Certificates | None) -> dict[str, object]:
    """What programs wait for; `tls_ca` only where clients need it."""
    ca = {"tls_ca": str(tls.ca)} if tls is not None else {}
    return {
        "event": "ready",
        "bootstrap": ",".join(node.kafka for node in nodes),
        "grpc": ",".join(node.grpc for node in nodes),
        "nodes": [
            {"id": node.id, "pid": node.pid, "kafka": node.kafka, "grpc": node.grpc, "dir": node.dir} for node in nodes
        ],
        **ca,
    }


def show_ready(nodes: Sequence[RunningNode], seconds: float, how_it_ends: str, tls: Certificates | None = None) -> None:
    """The addresses, and what to try."""
    from ottla.cli.output import print_table

    print_table(NODE_COLUMNS, [(node.id, node.pid, node.kafka, node.grpc, node.http, node.dir) for node in nodes])
    click.echo(f"\nReady after {seconds:.2f} s. {how_it_ends}")
    server = "" if nodes[0].grpc.endswith(":10092") else f" --server {nodes[0].grpc}"
    if tls is not None:
        from ottla.cli.tls import show_client_settings

        show_client_settings(tls)
        server += f" --tls-ca {tls.ca}"
    click.echo(f"Try: echo hello | ottla produce greetings{server}; ottla consume greetings --exit{server}")


def is_live() -> bool:
    """Whether standard output is a terminal that can draw a line again."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
