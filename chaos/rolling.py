"""`python -m chaos.rolling`: what operators do to a cluster that serves, under load through both doors.

    python -m chaos.rolling --seconds 10

A rolling restart; growth from three nodes to five, and the first one removed; the loss of power of all at once. Clients
write and read with their default retries throughout, and may see no error. After each phase the cluster is stopped, and
every acknowledged record looked for in the log of every replica. Exit code 1 when anything is not as it should be.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.readers import GrpcReader, KafkaReader, Reader
from chaos.verdict import judge
from chaos.writers import GrpcWriter, KafkaWriter, Written
from ottla.testing.cluster import Cluster

TOPIC: Final = "rolling"
NODES: Final = 3
WAIT_S: Final = 60.0


@dataclass(slots=True)
class Load:
    """Two writers and two readers, and what they saw, over one phase."""

    written: list[Written] = field(default_factory=list)
    read: int = 0
    problems: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    def tell(self, what: str) -> None:
        """Print the phase's figures."""
        click.echo(f"{what}: {self.ended - self.began:.1f} s, {len(self.problems)} errors seen by clients")
        for one in self.written:
            gap_s = one.longest_gap_s(self.began, self.ended)
            click.echo(
                f"    {one.name}: {len(one.acknowledged):,} acknowledged; latency p50 {one.latency_ms(0.5):.1f} ms, "
                f"p99 {one.latency_ms(0.99):.1f} ms, max {one.latency_ms(1):.0f} ms; longest gap {gap_s * 1000:.0f} ms"
            )
        click.echo(f"    {self.read:,} records read")
        for text in self.problems[:5]:
            click.echo(f"    ERROR {text}")


@contextmanager
def load(cluster: Cluster, phase: str, partitions: int) -> Iterator[Load]:
    """Clients write and read as long as this lasts, and a second before and after."""
    seen = Load()
    readers = [
        KafkaReader(f"kafka reader {phase}", TOPIC, partitions, cluster.bootstrap),
        GrpcReader(f"grpc reader {phase}", TOPIC, partitions, cluster.grpc),
    ]
    writers = [
        KafkaWriter(f"kafka {phase}", TOPIC, partitions, cluster.bootstrap),
        GrpcWriter(f"grpc {phase}", TOPIC, partitions, cluster.grpc),
    ]
    for client in (*readers, *writers):
        client.start()
    time.sleep(1)
    seen.began = time.monotonic()
    yield seen
    seen.ended = time.monotonic()
    time.sleep(1)
    seen.written = [writer.stop() for writer in writers]
    _catch_up(readers, sum(len(one.acknowledged) for one in seen.written))
    for reader in readers:
        reader.stop()
    seen.read = sum(reader.records for reader in readers)
    seen.problems = [text for reader in readers for text in reader.problems]
    seen.problems += [text for one in seen.written for text in one.refused]


def _catch_up(readers: list[Reader], count: int) -> None:
    """Wait until each has read all that was acknowledged."""
    deadline = time.monotonic() + WAIT_S
    for reader in readers:
        while reader.records < count:
            if time.monotonic() > deadline:
                reader.problems.append(f"{reader.name} has read {reader.records} of {count} records")
                break
            time.sleep(0.05)


# -- the phases


def rolling_restart(cluster: Cluster, seconds: float) -> None:
    """Each node stops in order and starts again, when all are in sync."""
    for number in sorted(node["id"] for node in cluster.status()["nodes"]):
        cluster.restart_node(number)
        until_in_sync(cluster)
        time.sleep(seconds / NODES)


def grow_and_shrink(cluster: Cluster, seconds: float) -> None:
    """A fourth and a fifth node come and take partitions; the first one goes."""
    for number in (NODES + 1, NODES + 2):
        cluster.add_node(number)
        nodes = ",".join(map(str, range(1, number + 1)))
        ottla("topic", "reassign", TOPIC, "--to-nodes", nodes, "--server", cluster.grpc)
        until_in_sync(cluster)
        time.sleep(seconds / NODES)
    cluster.remove_node(1)
    until_in_sync(cluster)
    time.sleep(seconds / NODES)


def power_loss(cluster: Cluster, seconds: float) -> None:
    """Every process ends at once, as by `kill -9`, and is started again."""
    numbers = [node["id"] for node in cluster.status()["nodes"]]
    cluster.kill_node(*numbers)
    time.sleep(1)
    cluster.start_node(*numbers)
    until_in_sync(cluster)
    time.sleep(seconds / NODES)


PHASES: Final[dict[str, Callable[[Cluster, float], None]]] = {
    "rolling restart": rolling_restart,
    "growth to five, the first removed": grow_and_shrink,
    "power loss": power_loss,
}


def until_in_sync(cluster: Cluster, replicas: int = 0) -> None:
    """Return when every node takes part, no partition lacks a replica, and there are so many. Raises TimeoutError."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        standings = [node["standing"] for node in cluster.status()["nodes"]]
        whole = all(one and not (one["fenced"] or one["under_replicated"] or one["leaderless"]) for one in standings)
        if whole and sum(one["partitions"] for one in standings) >= replicas:
            return
        time.sleep(0.1)
    raise TimeoutError(f"not in sync within {WAIT_S:.0f} s: {cluster.status()}")


def replicas(cluster: Cluster) -> list[list[int]]:
    """The nodes of each partition's replicas."""
    found = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(TOPIC, 30).topics[TOPIC].partitions
    return [sorted(found[index].replicas) for index in sorted(found)]


def ottla(*arguments: str) -> None:
    """Run the command; raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "ottla.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--seconds", default=10.0, show_default=True, help="How long each phase goes on beside what it does.")
@click.option("--partitions", default=6, show_default=True)
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Keep the cluster's data here."
)
def main(*, seconds: float, partitions: int, directory: Path | None) -> int:
    """All phases."""
    directory = directory or Path(tempfile.mkdtemp(prefix="ottla-rolling-"))
    click.echo(f"data in {directory}")
    cluster, failed = Cluster(directory, nodes=NODES), False
    written: list[Written] = []
    cluster.start()
    try:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 2})
        admin.create_topics([NewTopic(TOPIC, partitions, NODES)])[TOPIC].result(30)
        until_in_sync(cluster, NODES * partitions)
        for number, (name, phase) in enumerate(PHASES.items(), 1):
            with load(cluster, f"{number}", partitions) as seen:
                phase(cluster, seconds)
            seen.tell(name)
            written += seen.written
            where = replicas(cluster)
            cluster.stop()
            verdict = judge(directory, TOPIC, where, written)
            click.echo(f"    {verdict.records:,} records in {verdict.replicas} logs: {verdict}")
            failed = failed or bool(seen.problems or verdict.problems)
            cluster.start()
    finally:
        cluster.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
