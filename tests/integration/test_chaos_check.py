"""`ottla chaos check` against a running cluster, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.cli.exit_codes import Exit
from ottla.client.sync import Admin
from ottla.testing.cluster import Cluster

COMMAND = [sys.executable, "-m", "ottla.cli", "chaos", "check", "--replication-factor", "1", "--for", "2s", "--json"]


def check(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, "--dir", str(directory), *arguments], capture_output=True, text=True, timeout=240)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", ["ottla", "confluent"])
def test_check_judges_a_running_cluster_and_leaves_nothing_behind(
    ottla_cluster: Cluster, tmp_path: Path, client: str
) -> None:
    address = ottla_cluster.grpc if client == "ottla" else ottla_cluster.bootstrap
    done = check(
        tmp_path, "--bootstrap", address, "--client", client, "--prefix", f"check-{client}-", "--workload", "append"
    )
    assert done.returncode == Exit.DONE, done.stderr + done.stdout
    result = json.loads(done.stdout)
    assert result["standing"] == "ok"
    assert result["acknowledged"] > 0
    assert result["unjudged"] == 0
    assert "waiting until replicas are in sync" in done.stderr
    with Admin(bootstrap_servers=ottla_cluster.grpc) as admin:
        assert not [topic.name for topic in admin.list_topics() if topic.name.startswith("check-")]


@pytest.mark.timeout(300)
def test_check_takes_no_topics_that_are_there_already(ottla_cluster: Cluster, tmp_path: Path) -> None:
    with Admin(bootstrap_servers=ottla_cluster.grpc) as admin:
        admin.create_topic("mine-append", 1, 1)
        done = check(tmp_path, "--bootstrap", ottla_cluster.grpc, "--prefix", "mine-", "--workload", "append")
        assert done.returncode == Exit.USAGE, done.stderr
        assert "topic mine-append is there already: choose another --prefix" in done.stderr
        admin.delete_topic("mine-append")  # that is, it was not taken away by the check
