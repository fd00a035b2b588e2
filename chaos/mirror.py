"""`python -m chaos.mirror`: a mirror between two clusters while its processes and the nodes of both come to harm.

    python -m chaos.mirror --for 300 --seed 7
    python -m chaos.mirror --faults far-cut,far-slow,disk-full
    python -m chaos.mirror --exact

Writers fill the source, one in transactions of which a fifth is aborted. Two mirror processes share the work; they are
killed, or stopped until others have taken their share and then go on as zombies. Meanwhile each cluster has one fault
after the other: of processes, of the network within it, of the way to it, of disks. Exit code 1 unless the copy holds
each committed record of the source once and in order, at the offset that the mirror's own map tells, and nothing else.
With `--exact` the copy is to be the source, byte for byte.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Final

import click
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.mirror_processes import Mirrors, TransactionWriter
from chaos.mirror_verdict import judge
from chaos.nemeses.catalog import NEMESES
from chaos.nemeses.far import FarCut, FarSlow
from chaos.writers import IMPATIENT, KafkaWriter
from ottla.client.errors import ClientError
from ottla.testing.chaos.catalog import check, make, names
from ottla.testing.chaos.local_target import LocalTarget
from ottla.testing.chaos.needs import Unavailable
from ottla.testing.chaos.nemesis import Nemesis
from ottla.testing.chaos.own_cluster import step_into_network
from ottla.testing.chaos.schedule import steps
from ottla.testing.cluster import ClusterError

NODES: Final = 3
TOPIC: Final = "orders"
RECORDS_A_SECOND: Final = 200
SETTINGS: Final = {
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
}
KNOWN: Final[Mapping[str, type[Nemesis]]] = {**NEMESES, FarCut.name: FarCut, FarSlow.name: FarSlow}
FAULTS: Final = (
    "kill",
    "kill-leader",
    "kill-controller",
    "kill-all",
    "pause",
    "pause-leader",
    "rolling-restart",
    "partition-halves",
    "partition-leader",
    "partition-isolated",
    "partition-one-way",
    "slow-links",
    "lossy-links",
    "far-cut",
    "far-slow",
    "disk-full",
    "stalled-disk",
    "slow-syncs",
)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--for", "seconds", default=300, show_default=True, help="How long faults are done.")
@click.option("--seed", default=0, help="What is drawn; 0: another seed each time.")
@click.option("--partitions", default=6, show_default=True)
@click.option("--faults", default=",".join(FAULTS), show_default=True, help="Which, to the nodes of either cluster.")
@click.option("--exact", is_flag=True, help="By a byte-exact link, instead of transactions.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where data and logs go.")
def main(*, seconds: int, seed: int, partitions: int, faults: str, exact: bool, directory: Path | None) -> int:
    """One run."""
    seed = seed or int(time.time())
    directory = directory or Path(tempfile.mkdtemp(prefix="ottla-chaos-mirror-"))
    wanted = names(faults.split(","), KNOWN)
    try:
        for kind in wanted:
            check(kind, KNOWN)
        command = [sys.executable, "-m", "chaos.mirror", "--for", str(seconds), "--seed", str(seed)]
        command += ["--partitions", str(partitions), "--faults", faults, "--directory", str(directory)]
        command += ["--exact"] if exact else []
        step_into_network(wanted, command, KNOWN)
    except Unavailable as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"seed {seed}, data in {directory}")
    clusters = {
        name: LocalTarget(directory / name, nodes=NODES, settings=SETTINGS, number=number)
        for number, name in enumerate("ab")
    }
    nemeses = {name: {kind: make(kind, one, KNOWN) for kind in wanted} for name, one in clusters.items()}
    try:
        return asyncio.run(_run(clusters, nemeses, wanted, directory, seconds, seed, partitions, exact=exact))
    finally:
        for name, one in clusters.items():
            for nemesis in nemeses[name].values():
                nemesis.cleanup()
            one.close()


async def _run(
    clusters: Mapping[str, LocalTarget],
    nemeses: Mapping[str, Mapping[str, Nemesis]],
    faults: list[str],
    directory: Path,
    seconds: int,
    seed: int,
    partitions: int,
    *,
    exact: bool,
) -> int:
    await asyncio.gather(*(asyncio.to_thread(one.start) for one in clusters.values()))
    source, target = clusters["a"].bootstrap, clusters["b"].bootstrap
    file = directory / "mirror.toml"
    protocol = "grpc" if exact else "kafka"
    doors = {alias: one.grpc if exact else one.bootstrap for alias, one in clusters.items()}
    file.write_text(_configuration(doors, protocol) + ("exact = true\n" if exact else ""))
    await asyncio.to_thread(create, source, partitions)
    mirrors = Mirrors(file, directory, Random(seed))
    writer = KafkaWriter("source", TOPIC, partitions, source, IMPATIENT)
    writer.records_a_second = RECORDS_A_SECOND
    transactions = TransactionWriter(source, TOPIC, partitions, Random(seed + 1))
    done: Counter[str] = Counter()
    try:
        mirrors.start()
        writer.start()
        transactions.start()
        until = time.monotonic() + seconds
        await asyncio.gather(
            _harm_mirrors(mirrors, Random(seed + 4), until),
            *(
                _harm(name, nemeses[name], faults, Random(seed + 2 + number), until, done)
                for number, name in enumerate(clusters)
            ),
        )
        for one in clusters.values():
            await asyncio.to_thread(_revive, one)
        written = await asyncio.to_thread(writer.stop)
        await asyncio.to_thread(transactions.stop)
        mirrors.revive()
        click.echo(f"{len(written.acknowledged)} records acknowledged, {len(written.refused)} refused")
        click.echo(
            f"{len(transactions.committed)} transactions committed, {len(transactions.aborted)} aborted, of "
            f"{transactions.unknown} it is not known"
        )
        acknowledged = [one.value for one in written.acknowledged]
        problems = await asyncio.to_thread(
            judge, source, target, file, partitions, acknowledged, frozenset(transactions.aborted)
        )
    finally:
        mirrors.stop()
    click.echo(f"{done.total() + mirrors.done.total()} faults")
    click.echo(f"nodes: {dict(done)}")
    click.echo(f"mirrors: {dict(mirrors.done)}, ended by themselves: {mirrors.ended}")
    click.echo("\n".join(problems) or "every committed record is in the copy, once, in order, where the map says")
    return 1 if problems else 0


def _configuration(doors: Mapping[str, str], protocol: str) -> str:
    """Ends in the table of the flow."""
    clusters = "".join(
        f'[clusters.{alias}]\nbootstrap_servers = "{servers}"\nprotocol = "{protocol}"\n'
        for alias, servers in doors.items()
    )
    return (
        f'{clusters}[flows."a->b"]\ntopics = ["{TOPIC}"]\nreplication_factor = {NODES}\nretry_backoff_max_ms = 2000\n'
    )


def create(bootstrap: str, partitions: int) -> None:
    """The topic of the source."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    for future in admin.create_topics([NewTopic(TOPIC, partitions, NODES)]).values():
        future.result(30)


def _revive(target: LocalTarget) -> None:
    down = [node for node in target.nodes if node not in target.running]
    if down:
        target.start_nodes(*down)


async def _harm(
    cluster: str,
    nemeses: Mapping[str, Nemesis],
    faults: list[str],
    random: Random,
    until: float,
    done: Counter[str],
) -> None:
    """Until the time is over; at the end everything runs."""
    for step in steps(random, faults):
        await asyncio.sleep(step.quiet_s)
        if time.monotonic() > until:
            return
        for kind in step.kinds:
            nemesis = nemeses[kind]
            try:
                fault = await nemesis.inject(random)
                click.echo(f"{time.strftime('%T')} {cluster}: {kind}: {fault.detail}")
                done[kind] += 1
                await asyncio.sleep(step.hold_s)
            except (ClusterError, ClientError) as error:  # a node that was too busy
                _note(cluster, kind, error)
            try:
                await nemesis.heal()
            except ClusterError as error:  # it is started again at the end
                _note(cluster, kind, error)


def _note(cluster: str, kind: str, error: Exception) -> None:
    click.echo(f"{time.strftime('%T')} {cluster}: {kind}: {str(error).splitlines()[0]}")


async def _harm_mirrors(mirrors: Mirrors, random: Random, until: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(random.uniform(2, 8))
        what = await asyncio.to_thread(mirrors.one)
        click.echo(f"{time.strftime('%T')} mirrors: {what}")


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
