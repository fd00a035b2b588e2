"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

import pytest

from ottla.testing.cluster import Cluster

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, cluster: Cluster) -> str:
    command = [sys.executable, str(EXAMPLES / name), cluster.grpc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_one_example_sends_another_reads(ottla_cluster: Cluster) -> None:
    assert run("produce.py", ottla_cluster).count("at offset") == 10
    assert "{'order': 9, 'total': 90}" in run("consume.py", ottla_cluster)


@pytest.mark.parametrize("time", ["first", "again"])
def test_the_blocking_example(ottla_cluster: Cluster, time: str) -> None:
    assert run("blocking.py", ottla_cluster).endswith("b'world'\n")
