"""`python -m chaos`: clients write with acks=all while nodes are killed, paused and restarted; then the verdict.

    python -m chaos --for 600 --seed 7

Exit code 1 when a record that was acknowledged is lost, doubled, moved or out of order, or replicas differ.
"""

import sys
import tempfile
import time
from pathlib import Path
from random import Random

import click
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.faults import Fault, Faults
from chaos.verdict import judge
from chaos.writers import IMPATIENT, GrpcWriter, KafkaWriter, Written
from ottla.testing.cluster import Cluster

TOPIC = "chaos"
NODES = 3
QUIET_S = 2.0  # between two faults: long enough for replicas to be in sync again, or not


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--for", "seconds", default=600, show_default=True, help="How long faults are done.")
@click.option("--seed", default=0, help="What is drawn; 0: another seed each time.")
@click.option("--partitions", default=6, show_default=True)
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Keep the cluster's data here."
)
def main(*, seconds: int, seed: int, partitions: int, directory: Path | None) -> int:
    """One run."""
    seed = seed or int(time.time())
    random = Random(seed)
    directory = directory or Path(tempfile.mkdtemp(prefix="ottla-chaos-"))
    click.echo(f"seed {seed}, data in {directory}")
    with Cluster(directory, nodes=NODES) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 2})
        admin.create_topics([NewTopic(TOPIC, partitions, NODES)])[TOPIC].result(30)
        writers = [
            KafkaWriter("kafka", TOPIC, partitions, cluster.bootstrap, IMPATIENT),
            GrpcWriter("grpc", TOPIC, partitions, cluster.grpc),
        ]
        for writer in writers:
            writer.start()
        faults = Faults(cluster, random, nodes=NODES)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(random.uniform(0.2, 2 * QUIET_S))
            _tell(faults.one(), len(faults.done))
        time.sleep(QUIET_S)
        written = [writer.stop() for writer in writers]
    _summarise(faults.done, written)
    verdict = judge(directory, TOPIC, [range(1, NODES + 1)] * partitions, written)
    click.echo(f"{verdict.records:,} records in {verdict.replicas} logs: {verdict}")
    return 1 if verdict.problems else 0


def _tell(fault: Fault, number: int) -> None:
    nodes = ", ".join(map(str, fault.nodes))
    click.echo(f"{number:4}  {fault.kind} (node {nodes}), over after {fault.over_at - fault.at:.1f} s")


def _summarise(faults: list[Fault], written: list[Written]) -> None:
    for one in written:
        click.echo(f"{one.name}: {len(one.acknowledged):,} acknowledged, {len(one.refused):,} refused")
        for text in one.refused[:3]:
            click.echo(f"    {text}")
    for kind in sorted({fault.kind for fault in faults}):
        of_kind = [fault for fault in faults if fault.kind == kind]
        gaps = sorted(max(w.longest_gap_s(f.at, f.over_at) for w in written) for f in of_kind)
        click.echo(
            f"{kind}: {len(of_kind)} times, longest write gap p50 {gaps[len(gaps) // 2]:.2f} s, max {gaps[-1]:.2f} s"
        )


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
