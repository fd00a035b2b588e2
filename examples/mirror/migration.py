"""From Apache Kafka to Ottla, and back again: python -m examples.mirror.migration [--from HOST:PORT]

A group reads each record exactly once, though it moves to the other cluster in the middle, and returns. The old cluster
is an Apache Kafka 4 of three brokers that is started for it (Java 17 or newer, Maven once), or the one at `--from`.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.mirror.local import (
    GROUP,
    Failed,
    check_copies,
    configure,
    expect,
    expect_each_once,
    make_topic,
    mirroring,
    ottla_mirror,
    read_as_group,
    say,
    wait_until_copied,
    write,
)
from ottla.testing.cluster import Cluster

THERE, BACK = "old->new", "new->old"
BROKERS = 3


def main(old: str, count: int = 1000, nodes: int = 3) -> None:
    """`count`: records of each of the three phases; `nodes`: of the new cluster."""
    with TemporaryDirectory() as directory, Cluster(nodes=nodes) as cluster:
        new = cluster.bootstrap
        config = configure(
            Path(directory),
            {"old": old, "new": new},
            (THERE, BACK),
            settings='replication_policy_class = "identity"',
        )
        for server in (old, new):
            make_topic(server)
        with mirroring(config):
            say(f"From {old}")
            say(f"  to {new}")
            say("Writing and reading in the old cluster, while it is copied ...")
            write(old, range(count))
            read = read_as_group(old, count // 2)
            say("The cut-over: no more writes, wait for the last copies, move the group, go on in the new cluster ...")
            move(config, THERE)
            write(new, range(count, 2 * count))
            read += read_as_group(new, count)
            say("And back ...")
            move(config, BACK)
            write(old, range(2 * count, 3 * count))
            read += read_as_group(old, 3 * count - len(read))
            wait_until_copied(config, THERE, BACK)
            check_copies(config)
        expect_each_once(read, range(3 * count), "the group")
        say(f"The group has read {3 * count} records, each once, across both moves.")


def move(config: Path, flow: str) -> None:
    """The group's members have stopped: let it go on where the flow leads, behind exactly what it has read."""
    wait_until_copied(config, THERE, BACK)
    moved = ottla_mirror("failover", config, flow, "--execute")
    expect(moved["lost_records"] == 0, f"{moved['lost_records']} records would be lost")
    expect(GROUP in moved["groups"], f"the group was not moved: {moved['left_alone']}")
    goes_on = ", ".join(f"{partition} at {offset}" for partition, offset in moved["groups"][GROUP].items())
    say(f"  {flow}: {moved['lost_records']} records are lost; the group goes on with {goes_on}")


@contextmanager
def old_cluster(server: str | None) -> Iterator[str]:
    """The address of the cluster that is left."""
    if server is not None:
        yield server
        return
    from bench.peers import kafka

    say(f"Starting Apache Kafka with {BROKERS} brokers ...")
    with kafka(nodes=BROKERS, copies=BROKERS, heap="512m") as started:
        yield started.cluster.bootstrap


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="server", metavar="HOST:PORT", help="the cluster to leave")
    try:
        with old_cluster(parser.parse_args().server) as server:
            main(server)
    except Failed as failure:
        sys.exit(str(failure))
