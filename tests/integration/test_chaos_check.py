"""`ottla chaos check` against a running cluster, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.cli.exit_codes import Exit
from ottla.client.sync import Admin
from ottla.testing.cluster import Cluster
from tests.integration.leftovers import processes_of

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


@pytest.mark.timeout(60)
def test_a_cluster_that_does_not_answer_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    command = [*COMMAND, "--bootstrap", "localhost:1"]
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, "the cluster is not reached" in done.stderr) == (Exit.UNREACHABLE, True), done.stderr
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    done = check(tmp_path, "--bootstrap", "localhost:1", "--report", str(tmp_path / "nowhere" / "page.html"))
    assert (done.returncode, "there is no folder" in done.stderr) == (Exit.USAGE, True), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_check_leaves_nothing_behind(ottla_cluster: Cluster, tmp_path: Path) -> None:
    command = [*COMMAND[:-3], "--for", "60s", "--json", "--bootstrap", ottla_cluster.grpc, "--prefix", "gone-"]
    running = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        told = ""
        for line in running.stderr:  # it ends when the process does
            told += line
            if "s of 60 s" in line:
                break
        assert list(tmp_path.iterdir())
        running.send_signal(signal.SIGINT)
        told += running.communicate(timeout=120)[1]
        assert running.returncode == Exit.INTERRUPTED, told
    finally:
        running.kill()
        running.wait()
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []
    with Admin(bootstrap_servers=ottla_cluster.grpc) as admin:
        assert not [topic.name for topic in admin.list_topics() if topic.name.startswith("gone-")]


@pytest.mark.timeout(300)
def test_check_takes_no_topics_that_are_there_already(ottla_cluster: Cluster, tmp_path: Path) -> None:
    with Admin(bootstrap_servers=ottla_cluster.grpc) as admin:
        admin.create_topic("mine-append", 1, 1)
        done = check(tmp_path, "--bootstrap", ottla_cluster.grpc, "--prefix", "mine-", "--workload", "append")
        assert done.returncode == Exit.USAGE, done.stderr
        assert "topic mine-append is there already: choose another --prefix" in done.stderr
        admin.delete_topic("mine-append")  # that is, it was not taken away by the check
