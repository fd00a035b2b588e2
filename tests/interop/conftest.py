"""One node for the whole suite; `OTTLA_TEST_BOOTSTRAP=host:port` aims it at another cluster, e.g. Apache Kafka."""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from ottla.testing.cluster import Cluster

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """Bootstrap servers of the cluster under test."""
    if given := os.environ.get("OTTLA_TEST_BOOTSTRAP"):
        yield given
    else:
        with Cluster() as cluster:
            yield cluster.bootstrap


@pytest.fixture
def new_name() -> Callable[[str], str]:
    """Names that no other test uses."""
    return lambda prefix: f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)
