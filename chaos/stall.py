"""`python -m chaos.stall`: a node's disk does not answer for ten seconds, while clients write through both doors.

    python -m chaos.stall --seconds 10

The node's heartbeats go on, so nobody would miss it: it has to resign what it leads by itself, within a second. The
partitions that others lead lose it as a replica then, and go on. First a node that only follows in the metadata quorum,
then the active controller. Afterwards every acknowledged record is looked for in the log of every replica.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.rolling import ottla, until_in_sync
from chaos.stalled_disk import StallableDisks
from chaos.verdict import judge
from chaos.writers import IMPATIENT, GrpcWriter, KafkaWriter, Written, share_below
from ottla.testing.cluster import Cluster

TOPIC: Final = "stall"
NODES: Final = 3
PARTITIONS: Final = 6
RESIGNED_S: Final = 1.0
P99_MS: Final = 50.0
LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """One that was done."""

    node: int
    was_controller: bool
    led: frozenset[int]  # partitions, when it began
    at: float
    resigned_s: float | None  # after so long it led nothing any more
    was_fenced: bool
    over_at: float
    in_sync_s: float  # so long after its end


def stall(cluster: Cluster, disks: StallableDisks, node: int, seconds: float) -> Stall:
    """Stall that node's disk, and look how the node stands meanwhile."""
    was_controller, led = cluster.controller() == node, led_by(cluster, node)
    resigned_s, was_fenced = None, False
    at = time.monotonic()
    with disks.stalled(cluster.directory / f"node-{node}"):
        while (now := time.monotonic()) < at + seconds:
            standings = {one["id"]: one["standing"] for one in cluster.status()["nodes"] if one["standing"]}
            was_fenced = was_fenced or node not in standings or standings[node]["fenced"]
            # As the others know it: the node's own copy of the metadata waits for its disk too.
            led_by_others = sum(standing["led"] for one, standing in standings.items() if one != node)
            if resigned_s is None and led_by_others >= PARTITIONS:
                resigned_s = time.monotonic() - at
            time.sleep(max(0.0, now + LOOK_S - time.monotonic()))
    over_at = time.monotonic()
    until_in_sync(cluster)
    return Stall(
        node=node,
        was_controller=was_controller,
        led=led,
        at=at,
        resigned_s=resigned_s,
        was_fenced=was_fenced,
        over_at=over_at,
        in_sync_s=time.monotonic() - over_at,
    )


def led_by(cluster: Cluster, node: int) -> frozenset[int]:
    """The partitions of the topic which that node leads."""
    found = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(TOPIC, 30).topics[TOPIC].partitions
    return frozenset(index for index, partition in found.items() if partition.leader == node)


def tell(one: Stall, written: Sequence[Written], quiet: tuple[float, float]) -> bool:
    """Print its figures; whether they are as they should be."""
    resigned = "never" if one.resigned_s is None else f"after {one.resigned_s:.2f} s"
    click.echo(
        f"node {one.node}{', the active controller' if one.was_controller else ''}: disk stalled for "
        f"{one.over_at - one.at:.1f} s; resigned {resigned}; fenced: {'yes' if one.was_fenced else 'no'}; "
        f"in sync again {one.in_sync_s:.2f} s after the end"
    )
    good = one.resigned_s is not None and one.resigned_s <= RESIGNED_S and not one.was_fenced
    for client in written:
        before = _latencies(client, range(PARTITIONS), *quiet)
        others = [n for n in range(PARTITIONS) if n not in one.led]
        during = _latencies(client, others, one.at + RESIGNED_S, one.over_at)
        own = max((client.longest_gap_s(one.at, one.over_at, [n]) for n in one.led), default=0.0)
        rest = max(client.longest_gap_s(one.at, one.over_at, [n]) for n in others)
        p99_ms = share_below(during, 0.99)
        good = good and p99_ms <= P99_MS
        click.echo(
            f"    {client.name}: partitions of others, from {RESIGNED_S:.0f} s on: "
            f"p50 {share_below(during, 0.5):.1f} ms, p99 {p99_ms:.1f} ms, max {share_below(during, 1):.0f} ms "
            f"(before: p99 {share_below(before, 0.99):.1f} ms); "
            f"longest gap of these {rest * 1000:.0f} ms, of those that it led {own * 1000:.0f} ms"
        )
    return good


def _latencies(client: Written, partitions: Sequence[int], since: float, until: float) -> list[float]:
    """In milliseconds, of what was handed to the client in that time."""
    return [
        one.latency_s * 1000
        for one in client.acknowledged
        if one.partition in partitions and since <= one.at - one.latency_s < until
    ]


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--seconds", default=10.0, show_default=True, help="How long the disk stalls.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Keep the cluster's data here."
)
def main(*, seconds: float, directory: Path | None) -> int:
    """Two stalls."""
    directory = directory or Path(tempfile.mkdtemp(prefix="ottla-stall-"))
    click.echo(f"data in {directory}")
    disks = StallableDisks(directory)
    with Cluster(directory, nodes=NODES, environment=disks.environment) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 2})
        spread = [[(n + step) % NODES + 1 for step in range(NODES)] for n in range(PARTITIONS)]
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, replica_assignment=spread)])[TOPIC].result(30)
        until_in_sync(cluster, NODES * PARTITIONS)
        writers = [
            KafkaWriter("kafka", TOPIC, PARTITIONS, cluster.bootstrap, IMPATIENT),
            GrpcWriter("grpc", TOPIC, PARTITIONS, cluster.grpc),
        ]
        for writer in writers:
            writer.start()
        time.sleep(seconds)
        quiet = time.monotonic() - seconds / 2, time.monotonic()
        controller = cluster.controller()
        follower = next(n for n in range(1, NODES + 1) if n != controller)
        stalls = [stall(cluster, disks, follower, seconds)]
        ottla("elect-leaders", "--server", cluster.grpc)
        time.sleep(2)
        stalls.append(stall(cluster, disks, cluster.controller() or 1, seconds))
        time.sleep(1)
        written = [writer.stop() for writer in writers]
    good = [tell(one, written, quiet) for one in stalls]
    for client in written:
        click.echo(f"{client.name}: {len(client.acknowledged):,} acknowledged, {len(client.refused):,} refused")
    verdict = judge(directory, TOPIC, [range(1, NODES + 1)] * PARTITIONS, written)
    click.echo(f"{verdict.records:,} records in {verdict.replicas} logs: {verdict}")
    return 0 if all(good) and not verdict.problems and not any(client.refused for client in written) else 1


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
