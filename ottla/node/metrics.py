"""The node's figures as Prometheus reads them, and the text form in which they are served.

Imported with the first scrape. Names follow Prometheus's rules: base units, `_total` for what only grows.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as formats
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

PREFIX = "ottla_"


def counter(name: str, text: str, value: float) -> Metric:
    """A figure that only grows while the node runs."""
    return CounterMetricFamily(PREFIX + name, text, value)


def gauge(name: str, text: str, value: float) -> Metric:
    """A figure of this moment."""
    return GaugeMetricFamily(PREFIX + name, text, value)


def labelled(
    kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, text: str, labels: Sequence[str]
) -> Metric:
    """An empty family; its samples are added with `add_metric`."""
    return kind(PREFIX + name, text, labels=list(labels))


class _Snapshot:
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(metrics: Sequence[Metric], accept: str) -> tuple[bytes, str]:
    """The node's figures and its process's in the form that `accept` asks for; body and content type."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(metrics))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    encode, content_type = formats.choose_encoder(accept)
    return encode(registry), content_type
