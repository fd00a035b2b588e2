"""`ottla mirror run --http`: the process's figures for Prometheus."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ottla.core.errors import ConfigError
from ottla.mirror.core.partition_task import State
from ottla.mirror.engine.process import MirrorProcess
from ottla.node.http import HttpDoor

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LABELS = ("flow", "topic", "partition")


@asynccontextmanager
async def serve_metrics(process: MirrorProcess, address: str) -> AsyncIterator[None]:
    """Serve `/metrics` and `/health` while the block runs."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--http {address}: write HOST:PORT")
    listening = socket.create_server((host.strip("[]"), int(port)))
    listening.setblocking(False)
    door = HttpDoor(asyncio.get_running_loop(), [listening], Figures(process))
    door.start()
    try:
        yield
    finally:
        door.stop()


class Figures:
    """Implements `node.http.Observed`."""

    def __init__(self, process: MirrorProcess) -> None:
        self._process = process

    def health(self) -> dict[str, object]:
        """Not ok while a partition is stopped."""
        stopped = sum(
            copier.task.state is State.STOPPED
            for flow in self._process.flows.values()
            for copier in flow.copiers.values()
        )
        return {"status": "stopped partitions" if stopped else "ok", "stopped": stopped}

    def metrics(self) -> "Sequence[Metric]":
        """Of this moment."""
        now = time.time()
        found: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for name, flow in self._process.flows.items():
            for partition, copier in flow.copiers.items():
                figures, task = copier.figures, copier.task
                labels = (name, partition.topic, str(partition.partition))
                for metric, value in (
                    ("records", figures.records),
                    ("bytes", figures.bytes),
                    ("transactions", figures.transactions),
                    ("left_out", figures.left_out),
                    ("dead_letters", figures.dead_letters),
                    ("lag_records", copier.behind),
                    ("lag_seconds", copier.behind_s(now)),
                    ("in_trouble", float(bool(task.last_error))),
                    ("stopped", float(task.state is State.STOPPED)),
                    ("lost_records", sum(one.end - one.first for one in task.lost)),
                ):
                    found.setdefault(metric, []).append((labels, value))
        return [_metric(name, text, kind, found.get(name, [])) for name, (text, kind) in METRICS.items()]


METRICS = {
    "records": ("Records copied.", "counter"),
    "bytes": ("Bytes of batches copied.", "counter"),
    "transactions": ("Transactions committed on the target.", "counter"),
    "left_out": ("Batches not copied: markers, aborted ones, loops.", "counter"),
    "dead_letters": ("Records that the target refused for their size.", "counter"),
    "lag_records": ("Offsets of the source that are not copied yet.", "gauge"),
    "lag_seconds": ("How long there have been records that are not copied yet.", "gauge"),
    "in_trouble": ("1 while the last try failed.", "gauge"),
    "stopped": ("1 when the partition waits for an operator.", "gauge"),
    "lost_records": ("Offsets that the source lost before they were copied.", "gauge"),
}


def _metric(name: str, text: str, kind: str, samples: list[tuple[tuple[str, ...], float]]) -> "Metric":
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    metric = family(f"ottla_mirror_{name}", text, labels=LABELS)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric
