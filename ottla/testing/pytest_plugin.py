"""Pytest fixtures for tests that need a cluster; installed with Ottla, loaded by pytest by itself.

    def test_orders(ottla_cluster, ottla_topic):
        producer = confluent_kafka.Producer({"bootstrap.servers": ottla_cluster.bootstrap})
        ...

One cluster is started for a test session, with xdist one for each worker, when the first test asks for it. The fixtures
are plain functions, so they serve tests of pytest-asyncio, of anyio's plugin and synchronous ones alike. When a test
that uses the cluster fails, what the nodes logged meanwhile is printed with it. Only light modules are imported here.
"""

import re
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ottla.testing.cluster import Cluster

_CLUSTERS = pytest.StashKey["list[Cluster]"]()
_LOG_STARTS = pytest.StashKey["list[tuple[Cluster, int]]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--ottla-nodes`, and `ottla_nodes` in the ini file; the flag wins."""
    text = "how many nodes the cluster of the session has: 1, 3 or 5"
    parser.addini("ottla_nodes", text, default="1")
    parser.getgroup("ottla").addoption("--ottla-nodes", type=int, metavar="N", help=text)


@pytest.fixture(scope="session")
def ottla_nodes(pytestconfig: pytest.Config) -> int:
    """How many nodes the cluster of the session has; from the flag or the ini file, unless a conftest overrides it."""
    flag: int | None = pytestconfig.getoption("ottla_nodes")
    return int(pytestconfig.getini("ottla_nodes")) if flag is None else flag


@pytest.fixture(scope="session")
def ottla_settings() -> Mapping[str, object]:
    """Node fields or Kafka's config names for the cluster of the session; override it in your conftest."""
    return {}


@pytest.fixture(scope="session")
def ottla_cluster_factory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Callable[..., Cluster]]":
    """Start further clusters: `ottla_cluster_factory(nodes=3, settings=…)`. They stop with the session."""
    from ottla.testing.cluster import Cluster

    running = request.config.stash.setdefault(_CLUSTERS, [])
    with ExitStack() as stack:

        def start(
            *, nodes: int = 1, settings: Mapping[str, object] | None = None, directory: Path | None = None
        ) -> Cluster:
            cluster = Cluster(directory or tmp_path_factory.mktemp("ottla"), nodes=nodes, settings=settings)
            cluster.start()
            running.append(cluster)
            stack.callback(cluster.stop)
            return cluster

        yield start
    running.clear()


@pytest.fixture(scope="session")
def ottla_cluster(
    ottla_cluster_factory: "Callable[..., Cluster]", ottla_nodes: int, ottla_settings: Mapping[str, object]
) -> "Cluster":
    """The cluster of this session (of this worker, under xdist): `.bootstrap` for Kafka clients, `.grpc` for ours."""
    return ottla_cluster_factory(nodes=ottla_nodes, settings=ottla_settings)


@pytest.fixture
def ottla_topic(request: pytest.FixtureRequest) -> str:
    """The name of a topic that no other test uses; it is created by its first use."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", request.node.name).strip("-")[:80]
    return f"{readable}-{uuid.uuid4().hex[:8]}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Remember where the logs stand when a test begins."""
    item.stash[_LOG_STARTS] = [(cluster, cluster.log_size()) for cluster in item.config.stash.get(_CLUSTERS, [])]
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the nodes logged during a failed test beside its traceback."""
    report = yield
    if report.failed and {"ottla_cluster", "ottla_cluster_factory"} & set(getattr(item, "fixturenames", ())):
        starts = {id(cluster): start for cluster, start in item.stash.get(_LOG_STARTS, [])}
        for cluster in item.config.stash.get(_CLUSTERS, []):
            text = cluster.log_tail(start=starts.get(id(cluster), 0))
            report.sections.append((f"Ottla's nodes at {cluster.bootstrap}", text or "(nothing was logged)"))
    return report
