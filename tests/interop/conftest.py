"""One node for the whole suite; `OTTLA_TEST_BOOTSTRAP=host:port` aims it at another cluster, e.g. Apache Kafka."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the cluster under test."""
    if given := os.environ.get("OTTLA_TEST_BOOTSTRAP"):
        yield given
        return
    directory = tmp_path_factory.mktemp("interop")
    log_path = directory / "stderr.log"
    command = [sys.executable, "-m", "ottla.cli.main", "up", "--json", "--port", "0", "--dir", str(directory / "data")]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        yield _ready(process, log_path)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log_path.read_text()[-4000:]
        assert process.stdout
        process.stdout.close()


def _ready(process: subprocess.Popen[bytes], log_path: Path) -> str:
    assert process.stdout
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "ready":
            return str(event["bootstrap"])
    pytest.fail(f"the node ended before it was ready:\n{log_path.read_text()[-4000:]}")


@pytest.fixture
def new_name() -> Callable[[str], str]:
    """Names that no other test uses."""
    return lambda prefix: f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)
