"""Ottla beside Apache Kafka, in one run: `python -m bench`, or `make bench`.

The peers run by turns, each alone on the machine, round after round: what one leaves in the page cache would otherwise
be written back while the other syncs, and a machine whose speed drifts slows both. Ottla is durable (every acknowledged
record synced); Kafka relies on the page cache, which is its default; `--kafka-flush` makes Kafka sync each
acknowledgement as well. A ratio is the median of Ottla's figure over the median of Kafka's. Prints a table, and with
--json FILE writes all figures of all rounds.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from bench import groups, peers
from bench.cluster import Cluster
from bench.measures import BETTER, DEADLY, MEASURES, Options
from bench.producing import Figures

Rounds = dict[str, dict[str, list[Figures]]]  # measure → peer → a set of figures for each round


def main() -> None:
    options = _arguments()
    rounds: Rounds = {}
    console = Console(stderr=True)
    build = peers.build(options.python) if "ottla" in options.peers else ""
    console.print(build, style="dim")
    for turn in range(options.rounds):
        for peer in options.peers:
            for names in _of_one_cluster(options.measures or list(MEASURES)):
                with ExitStack() as stack:
                    cluster, start_s = _start(stack, peer, options)
                    time.sleep(3)
                    at_rest = {"start_s": start_s, "memory_mib": cluster.memory_mib()}
                    rounds.setdefault("at rest", {}).setdefault(peer, []).append(at_rest)
                    for name in names:
                        console.print(f"round {turn + 1} of {options.rounds}: {name}, {peer}", style="dim")
                        peers.write_back()
                        found = MEASURES[name](cluster, Options(seconds=options.seconds))
                        rounds.setdefault(name, {}).setdefault(peer, []).append(found)
    _print(rounds, options.peers, build)
    if options.json:
        machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": sys.version.split()[0]}
        report = {"machine": machine, "build": build, "measures": rounds}
        Path(options.json).write_text(json.dumps(report, indent=1))


def _of_one_cluster(measures: list[str]) -> list[list[str]]:
    """Those after which all nodes are left together; the others each with a cluster of its own."""
    together = [name for name in measures if name not in DEADLY]
    return [*([together] if together else []), *([name] for name in measures if name in DEADLY)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of: {', '.join(MEASURES)} (default: all)")
    parser.add_argument("--peers", nargs="+", choices=("ottla", "kafka"), default=["ottla", "kafka"])
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--rf", type=int, help="replication factor of the topics (default: 3, or as many as --nodes)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8, help="length of one measurement")
    parser.add_argument("--kafka-flush", action="store_true", help="Kafka with log.flush.interval.messages=1")
    parser.add_argument("--python", metavar="PATH", help="interpreter of the installation whose Ottla is to run")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    options.rf = options.rf or min(options.nodes, 3)
    if options.rf > options.nodes:
        parser.error(f"--rf {options.rf} needs as many nodes, --nodes {options.nodes} are fewer")
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"unknown measure {', '.join(sorted(unknown))}; there are: {', '.join(MEASURES)}")
    return options


def _start(stack: ExitStack, peer: str, options: argparse.Namespace) -> tuple[Cluster, float]:
    """Start a peer; returns it with the seconds from its command to the first acknowledged write."""
    if peer == "ottla":
        ottla = peers.ottla(nodes=options.nodes, copies=options.rf, settings=groups.SETTINGS, python=options.python)
        started = stack.enter_context(ottla)
    else:
        flush = ("log.flush.interval.messages=1",) if options.kafka_flush else ()
        settings = (*flush, *groups.KAFKA_SETTINGS)
        started = stack.enter_context(peers.kafka(nodes=options.nodes, copies=options.rf, settings=settings))
    _first_write(started.cluster)
    return started.cluster, time.time() - started.typed_at


def _first_write(cluster: Cluster) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            topic = cluster.new_topic(1)
            break
        except KafkaException:  # Kafka listens before it takes requests
            if time.monotonic() > deadline:
                raise
    # Not idempotent: librdkafka asks for a producer id before it is connected, and again half a second later.
    producer = cluster.producer(**{"linger.ms": 0, "enable.idempotence": False})
    producer.produce(topic, b"first")
    if producer.flush(60):
        raise TimeoutError(f"{cluster.name} did not acknowledge its first record in 60 s")


def _print(rounds: Rounds, names: list[str], build: str) -> None:
    ratio = ["ottla / kafka", "better is"] if len(names) == 2 else []
    table = Table("measure", "figure", *names, *ratio, title=build)
    for measure, found in rounds.items():
        label = measure
        for figure in found[names[0]][0]:
            medians = {n: statistics.median(f[figure] for f in found[n]) for n in names}
            row = [label, figure, *(f"{medians[n]:,.2f}" for n in names)]
            if len(names) == 2:
                row += [f"{medians['ottla'] / medians['kafka']:.2f}×", BETTER[figure]]
            table.add_row(*row)
            label = ""
        table.add_section()
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
