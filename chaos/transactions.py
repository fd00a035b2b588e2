"""`python -m chaos.transactions`: processes copy a topic in transactions while they and nodes are killed and stopped.

    python -m chaos.transactions --for 600 --seed 7 --client confluent

Two processes consume, transform and produce, and abort a tenth of their transactions on purpose. They are killed, or
stopped until their transactions have timed out, partly with a successor of the same transactional id, and then go on as
zombies; nodes are killed, paused and restarted, one, two or all at once. Exit code 1 when a record of the source is not
exactly once and in order in the copy as `read_committed` shows it, a transaction shows in part, or one hangs.
"""

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import click
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.copiers import Copied, Copiers, command
from chaos.copying import COPY, SOURCE
from chaos.exactly_once import Judge
from chaos.faults import Faults
from chaos.writers import IMPATIENT, KafkaWriter, Written
from ottla.testing.cluster import Cluster

NODES = 3
RECORDS_A_SECOND = 200  # copiers that are killed again and again come after it on a busy machine, too
QUIET_S = 2.0  # at most, between two faults of nodes
SETTINGS = {
    # Members that are killed give up their partitions soon: with the defaults most would wait for the dead.
    "group.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 3000,
    "group.consumer.heartbeat.interval.ms": 500,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
}
COPIER_QUIET_S = 8.0  # at most, between two faults of copiers: most transactions must get through


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--for", "seconds", default=600, show_default=True, help="How long faults are done.")
@click.option("--seed", default=0, help="What is drawn; 0: another seed each time.")
@click.option("--client", type=click.Choice(["confluent", "aiokafka"]), default="confluent", show_default=True)
@click.option(
    "--protocol", type=click.Choice(["classic", "consumer"]), default="classic", show_default=True, help="Of the group."
)
@click.option("--partitions", default=6, show_default=True)
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Keep the cluster's data here."
)
def main(*, seconds: int, seed: int, client: str, protocol: str, partitions: int, directory: Path | None) -> int:
    """One run."""
    seed = seed or int(time.time())
    directory = directory or Path(tempfile.mkdtemp(prefix="ottla-chaos-"))
    click.echo(f"seed {seed}, data in {directory}")
    with Cluster(directory, nodes=NODES, settings=SETTINGS) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 2})
        for future in admin.create_topics([NewTopic(name, partitions, NODES) for name in (SOURCE, COPY)]).values():
            future.result(30)
        writer = KafkaWriter("source", SOURCE, partitions, cluster.bootstrap, IMPATIENT)
        copiers = Copiers(
            command(client, "--bootstrap", cluster.bootstrap, "--partitions", str(partitions), "--protocol", protocol),
            directory,
            Random(seed),
        )
        writer.records_a_second = RECORDS_A_SECOND
        try:
            copiers.start()
            writer.start()
            faults = Faults(cluster, Random(seed), nodes=NODES)
            _trouble(faults, copiers, Random(seed + 1), seconds)
            written = writer.stop()
            judge = Judge(cluster.bootstrap, cluster.grpc, partitions)
            copied_all = _meanwhile(copiers, judge.wait_until_copied)
            copied = copiers.stop()
            judgement = judge.judge()
            if not copied_all:
                judgement.blame("the copiers do not come to the source's end")
        finally:
            copiers.kill()
    _summarise(faults, written, copied)
    click.echo(str(judgement))
    return 1 if judgement.problems else 0


def _trouble(faults: Faults, copiers: Copiers, random: Random, seconds: float) -> None:
    """Faults of nodes here, of copiers in a thread beside."""
    over = threading.Event()
    beside = threading.Thread(target=_trouble_copiers, args=(copiers, random, over), daemon=True)
    beside.start()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(random.uniform(0.2, QUIET_S))
            fault = faults.one()
            nodes = ", ".join(map(str, fault.nodes))
            click.echo(
                f"{len(faults.done):4}  {fault.kind} (node {nodes}), over after {fault.over_at - fault.at:.1f} s"
            )
    finally:
        over.set()
        beside.join()


def _trouble_copiers(copiers: Copiers, random: Random, over: threading.Event) -> None:
    due = time.monotonic() + COPIER_QUIET_S
    while not over.wait(0.1):
        copiers.wake()
        if time.monotonic() >= due:
            click.echo(f"      {copiers.fault()}")
            due = time.monotonic() + random.uniform(1.0, COPIER_QUIET_S)


def _meanwhile(copiers: Copiers, wait: Callable[[], bool]) -> bool:
    """Wait, with the copiers kept alive."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(0.1):
            copiers.wake()

    beside = threading.Thread(target=keep, daemon=True)
    beside.start()
    try:
        return wait()
    finally:
        over.set()
        beside.join()


def _summarise(faults: Faults, written: Written, copied: Copied) -> None:
    kills = sum(len(fault.nodes) for fault in faults.done if fault.kind.startswith(("kill", "power")))
    click.echo(f"source: {len(written.acknowledged):,} acknowledged, {len(written.refused):,} refused")
    for kind, count in sorted(Counter(fault.kind for fault in faults.done).items()):
        click.echo(f"{kind}: {count} times")
    click.echo(f"{kills} nodes killed, {copied.kills} copiers killed, {copied.zombies} zombies")
    for what, counts in (("steps", copied.steps), ("copiers that ended", copied.ended)):
        click.echo(f"{what}: {', '.join(f'{name} {number}' for name, number in counts.most_common())}")


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
