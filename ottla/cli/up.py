"""`ottla up`: a cluster in the foreground.

With `--json` standard output carries one JSON object a line: `starting`, then `ready` once a write with acks=all would
succeed, with every address. The form of these lines is a contract with the programs that read them.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from ottla.cli.output import print_json
from ottla.node.cluster import DEFAULT_BASE_PORT, ClusterSpec, LocalCluster, RunningNode, check_advertise


@click.command()
@click.option("--nodes", default=1, show_default=True, metavar="N", help="How many nodes, usually 1 or 3.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("ottla-data"),
    show_default=True,
    help="Where the nodes keep their data, each in a directory node-N.",
)
@click.option("--host", default="localhost", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    "base_port",
    default=DEFAULT_BASE_PORT,
    show_default=True,
    metavar="BASE",
    help="Node n serves Kafka on BASE+n-1, gRPC on BASE+1000+n-1, HTTP on BASE+2000+n-1, and other nodes on "
    "BASE+3000+n-1 and BASE+4000+n-1; 0: free ports.",
)
@click.option("--advertise", default="", metavar="HOST", help="The host that clients are told to connect to.")
@click.option("--insecure", is_flag=True, help="Listen on other addresses than loopback, unencrypted.")
@click.option("--fresh", is_flag=True, help="Delete the nodes' data first.")
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="A TOML file for every node.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A node field or one of Kafka's config names."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: starting, then ready.")
def up(
    *,
    nodes: int,
    directory: Path,
    host: str,
    base_port: int,
    advertise: str,
    insecure: bool,
    fresh: bool,
    file: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Start a cluster in the foreground; Ctrl-C stops it cleanly, a second one at once."""
    started_at = time.time()
    if as_json:
        print_json({"event": "starting", "at": started_at})
    node, kafka = _split(assignments)
    spec = ClusterSpec(
        nodes=nodes,
        directory=directory,
        host=host,
        base_port=base_port,
        advertise=check_advertise(advertise),
        insecure=insecure,
        fresh=fresh,
        file=file,
        node=node,
        kafka=kafka,
    )

    def on_ready(running: Sequence[RunningNode]) -> None:
        if as_json:
            print_json(_ready(running))
        else:
            _show(running, time.time() - started_at)

    LocalCluster(spec, on_ready).run()


def _split(assignments: tuple[str, ...]) -> tuple[dict[str, object], dict[str, object]]:
    if not assignments:
        return {}, {}
    from ottla.node.config import from_assignments

    layer = from_assignments(assignments, node={})
    return dict(layer.node), dict(layer.kafka)


def _ready(running: Sequence[RunningNode]) -> dict[str, object]:
    return {
        "event": "ready",
        "bootstrap": ",".join(node.kafka for node in running),
        "grpc": ",".join(node.grpc for node in running),
        "nodes": [
            {"id": node.id, "pid": node.pid, "kafka": node.kafka, "grpc": node.grpc, "dir": node.dir}
            for node in running
        ],
    }


def _show(running: Sequence[RunningNode], seconds: float) -> None:
    from ottla.cli.output import print_table

    rows = [(node.id, node.pid, node.kafka, node.grpc, node.http, node.dir) for node in running]
    print_table(("node", "pid", "kafka", "grpc", "http", "data"), rows)
    click.echo(f"\nReady after {seconds:.2f} s. Ctrl-C stops it; the data stays.")
    server = "" if running[0].grpc.endswith(":10092") else f" --server {running[0].grpc}"
    click.echo(f"Try: echo hello | ottla produce greetings{server}; ottla consume greetings --exit{server}")
