"""`ottla up`: a local cluster, in the foreground or behind it.

With `--json` standard output carries one JSON object a line: `starting`, then `ready` once a write with acks=all would
succeed, with every address. The form of these lines is a contract with the programs that read them.
"""

import shlex
import sys
import time
from pathlib import Path

import click

from ottla.cli.output import print_json
from ottla.cli.up_views import JsonView, LiveView, PlainView, is_live, ready_event, show_ready
from ottla.core.errors import ConfigError
from ottla.node.local.control import DEFAULT_DIRECTORY, named
from ottla.node.local.spec import DEFAULT_BASE_PORT, ClusterSpec, check_advertise


@click.command()
@click.option(
    "--nodes",
    type=int,
    metavar="N",
    show_default="as many as the directory holds, or 1",
    help="How many nodes, usually 1 or 3, at most 5.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Where the nodes keep their data, each in a directory node-N.",
)
@click.option(
    "--without",
    type=int,
    multiple=True,
    metavar="N",
    help="Do not start this node, whose data are lost; may be repeated.",
)
@click.option(
    "--host", default="localhost", show_default=True, help="The address to listen on; {node} is a node's number."
)
@click.option(
    "--port",
    "base_port",
    default=DEFAULT_BASE_PORT,
    show_default=True,
    metavar="BASE",
    help="Node n serves Kafka on BASE+n-1, gRPC on BASE+1000+n-1, HTTP on BASE+2000+n-1, and other nodes on "
    "BASE+3000+n-1 and BASE+4000+n-1; 0: free ports.",
)
@click.option(
    "--launch",
    default="",
    metavar="COMMAND",
    help="Start each node's process with this command before it, say `taskset -c {node}`; {node} is its number.",
)
@click.option("--advertise", default="", metavar="HOST", help="The host that clients are told to connect to.")
@click.option("--insecure", is_flag=True, help="Listen on other addresses than loopback, unencrypted.")
@click.option("--tls", is_flag=True, help="Speak TLS to clients and between nodes; what is lacking in DIR/tls is made.")
@click.option("--fresh", is_flag=True, help="Delete the nodes' data first.")
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="A TOML file for every node.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A node field or one of Kafka's config names."
)
@click.option("--detach", is_flag=True, help="Return when the cluster is ready; it goes on, its log in DIR/nodes.log.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: starting, then ready.")
def up(
    *,
    nodes: int | None,
    without: tuple[int, ...],
    directory: Path,
    host: str,
    base_port: int,
    launch: str,
    advertise: str,
    insecure: bool,
    tls: bool,
    fresh: bool,
    file: Path | None,
    assignments: tuple[str, ...],
    detach: bool,
    as_json: bool,
) -> None:
    """Start a cluster; Ctrl-C stops it cleanly, a second one at once. See also: status, node, down."""
    started_at = time.time()
    if as_json:
        print_json({"event": "starting", "at": started_at})
    node, kafka = _split(assignments)
    spec = ClusterSpec(
        nodes=nodes,
        without=without,
        directory=directory,
        host=host,
        base_port=base_port,
        launch=_words(launch),
        advertise=check_advertise(advertise),
        insecure=insecure,
        tls=tls,
        fresh=fresh,
        file=file,
        node=node,
        kafka=kafka,
    )

    if detach:
        _detach(spec, started_at, as_json=as_json)
    else:
        _run(spec, started_at, as_json=as_json)


def _run(spec: ClusterSpec, started_at: float, *, as_json: bool) -> None:
    from ottla.node.local.supervisor import Supervisor

    if as_json:
        Supervisor(spec, JsonView(spec.certificates)).run()
    elif not is_live():
        Supervisor(spec, PlainView(started_at, spec.certificates)).run()
    elif not sys.stderr.isatty():
        Supervisor(spec, LiveView(started_at, spec.certificates, log=None)).run()
    else:  # logs and a table that is drawn again do not go together
        Supervisor(spec, LiveView(started_at, spec.certificates, log=spec.log), log=spec.log).run()


def _detach(spec: ClusterSpec, started_at: float, *, as_json: bool) -> None:
    from ottla.cli.detach import start_detached

    nodes = start_detached(spec)
    if as_json:
        print_json(ready_event(nodes, spec.certificates))
    else:
        flag = named(spec.directory)
        ends = f"`ottla status{flag}` shows it, `ottla down{flag}` stops it; the data stays."
        show_ready(nodes, time.time() - started_at, ends, spec.certificates)


def _words(launch: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(launch))
    except ValueError as error:
        raise ConfigError(f"--launch {launch}: {error}") from error


def _split(assignments: tuple[str, ...]) -> tuple[dict[str, object], dict[str, object]]:
    if not assignments:
        return {}, {}
    from ottla.node.config import from_assignments

    layer = from_assignments(assignments, node={})
    return dict(layer.node), dict(layer.kafka)
