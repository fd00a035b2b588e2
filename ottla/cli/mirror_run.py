"""`ottla mirror run`: the process, and how it shows what happens."""

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import click

from ottla.cli.durations import spoken
from ottla.cli.mirror import stop_signals
from ottla.cli.output import print_json, table
from ottla.cli.up_views import is_live
from ottla.mirror.config import MirrorConfig
from ottla.mirror.core.partition_task import State
from ottla.mirror.engine.process import MirrorProcess

if TYPE_CHECKING:
    from rich.table import Table

INTERVAL_S: Final = 1.0
_SHOWN: Final = 30  # partitions in the table
_PATIENCE_S: Final = 20.0


async def run_until_stopped(config: MirrorConfig, *, http: str | None, verbose: bool, as_json: bool) -> None:
    """Return when a signal came and everything is closed."""
    live = not as_json and is_live()
    level = logging.INFO if verbose or not (live or as_json) else logging.WARNING
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("ottla.mirror").setLevel(level)
    stopped = asyncio.Event()
    stop_signals(stopped.set)
    started_at = time.monotonic()
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(MirrorProcess(config)))
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():  # a cluster that does not answer may take its time
            starting.cancel()
            await asyncio.wait([starting])
            return
        process = starting.result()
        if http is not None:
            from ottla.cli.mirror_metrics import serve_metrics

            await stack.enter_async_context(serve_metrics(process, http))
        view = JsonView(process) if as_json else TableView(process) if live else QuietView(process)
        view.ready(time.monotonic() - started_at)
        try:
            while not stopped.is_set():
                try:
                    async with asyncio.timeout(INTERVAL_S):
                        await stopped.wait()
                except TimeoutError:
                    view.refresh()
        finally:
            view.close()


class View:
    """Rates are those of the time between two looks."""

    def __init__(self, process: MirrorProcess) -> None:
        self.process = process
        self._before: dict[str, tuple[int, int]] = {}
        self._at = time.monotonic()

    def ready(self, seconds: float) -> None:
        """The clusters are reached."""

    def refresh(self) -> None:
        """Once a second."""

    def close(self) -> None:
        """The process ends."""

    def rates(self) -> dict[str, tuple[float, float]]:
        """Records and bytes a second by flow."""
        now = time.monotonic()
        seconds, self._at = max(now - self._at, 0.001), now
        rates = {}
        for name, flow in self.process.flows.items():
            records = sum(copier.figures.records for copier in flow.copiers.values())
            size = sum(copier.figures.bytes for copier in flow.copiers.values())
            records_before, size_before = self._before.get(name, (records, size))
            self._before[name] = (records, size)
            rates[name] = (max(0, records - records_before) / seconds, max(0, size - size_before) / seconds)
        return rates


class QuietView(View):
    """The log tells."""

    def ready(self, seconds: float) -> None:
        """One line."""
        flows = ", ".join(self.process.flows)
        click.echo(f"Copying {flows}; ready after {seconds:.2f} s. Ctrl-C stops it, and nothing is lost.", err=True)


class JsonView(View):
    """One object a line."""

    def ready(self, seconds: float) -> None:
        """The first line."""
        print_json({"event": "ready", "flows": list(self.process.flows), "after_s": round(seconds, 3)})

    def refresh(self) -> None:
        """One line for each flow."""
        rates = self.rates()
        for name, flow in self.process.flows.items():
            copiers = flow.copiers.values()
            print_json(
                {
                    "event": "flow",
                    "flow": name,
                    "topics": len(flow.names),
                    "partitions": len(copiers),
                    "records": sum(copier.figures.records for copier in copiers),
                    "bytes": sum(copier.figures.bytes for copier in copiers),
                    "records_per_s": round(rates[name][0], 1),
                    "bytes_per_s": round(rates[name][1]),
                    "behind": sum(copier.behind for copier in copiers),
                    "behind_s": round(max((copier.behind_s(time.time()) for copier in copiers), default=0.0), 3),
                    "troubles": flow.troubles.all(),
                    "in_trouble": {
                        f"{one.topic}-{one.partition}": copier.task.last_error
                        for one, copier in flow.copiers.items()
                        if copier.task.last_error
                    },
                }
            )


class TableView(View):
    """A table that is drawn again every second: partitions in trouble first, then those that are behind most."""

    def ready(self, seconds: float) -> None:
        """Begin to draw."""
        from rich.live import Live

        click.echo(f"Ready after {seconds:.2f} s. Ctrl-C stops it, and nothing is lost.\n")
        self._live: Live = Live(auto_refresh=False, redirect_stdout=True, redirect_stderr=True)
        self._live.start()
        self.refresh()

    def refresh(self) -> None:
        """Draw."""
        self._live.update(self._table(), refresh=True)

    def close(self) -> None:
        """The last table stays."""
        self._live.stop()

    def _table(self) -> "Table":
        now = time.time()
        rows: list[tuple[object, ...]] = []
        rates = self.rates()
        for name, flow in self.process.flows.items():
            copiers = sorted(
                flow.copiers.items(),
                key=lambda item: (item[1].task.state in (State.COPYING, State.NEW), -item[1].behind, item[0]),
            )
            records, size = rates[name]
            behind = sum(copier.behind for _, copier in copiers)
            rows.append(
                (name, f"{len(copiers)} partitions", "", behind, "", f"{records:,.0f}/s {size / 1e6:.1f} MB/s", "")
            )
            rows += [
                ("", one, kind, "", "", "", reason)
                for kind, found in flow.troubles.all().items()
                for one, reason in found.items()
            ]
            for partition, copier in copiers[:_SHOWN]:
                rows.append(
                    (
                        "",
                        f"{partition.topic}-{partition.partition}",
                        copier.task.state.value,
                        copier.behind,
                        spoken(copier.behind_s(now)),
                        f"{copier.figures.records:,} records",
                        copier.task.last_error,
                    )
                )
        return table(("flow", "partition", "state", "behind", "for", "copied", "last error"), rows)
