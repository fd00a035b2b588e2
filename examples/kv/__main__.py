"""`python -m examples.kv`: nodes of the store, and a client of it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from examples.kv.client import BadAddress, KeyValueClient, Refused, Unavailable
from examples.kv.cluster import Cluster, WrongDirectory
from examples.kv.processes import NodeProcess, stop_all

T = TypeVar("T")

directory = click.option("--dir", "path", type=click.Path(path_type=Path), required=True, help="Of the cluster.")
nodes = click.option("--nodes", required=True, metavar="HOST:PORT,...", help="Some of them, or all.")
key = click.argument("key", type=str.encode)
value = click.argument("value", type=str.encode)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@directory
@click.option("--nodes", "count", type=click.IntRange(1, 9), default=3, show_default=True, help="Of a new cluster.")
@click.option("--port", type=click.IntRange(0, 65_000), default=7401, show_default=True,
              help="Of the first node of a new cluster; 0: wherever there is room.")  # fmt: skip
def up(path: Path, count: int, port: int) -> None:
    """Start all nodes, and stop them at Ctrl-C."""
    try:
        cluster = Cluster.load(path) if path.exists() else Cluster.create(path, count, first_port=port)
    except WrongDirectory as error:
        raise click.ClickException(str(error)) from error
    processes = [NodeProcess(cluster, node) for node in cluster.nodes]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for process in processes:
            process.start()
        for process in processes:
            click.echo(f"{process.read_line()}, data in {cluster.node_path(process.node)}, process {process.pid}")
        click.echo(f"python -m examples.kv set KEY VALUE --nodes {cluster.addresses}")
        signal.pause()
    except KeyboardInterrupt:
        click.echo("stopping")
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    finally:
        stop_all(processes)


@main.command()
@directory
@click.option("--id", "node_id", type=int, required=True, help="Which of the cluster's nodes.")
@click.option("--ends-with-stdin", is_flag=True, help="Stop when standard input ends, so as not to outlive a parent.")
def node(path: Path, node_id: int, ends_with_stdin: bool) -> None:
    """Run one node."""
    from examples.kv.node import exit_at_once, run

    try:
        cluster = Cluster.load(path)
        cluster.check_directory(node_id)
    except WrongDirectory as error:
        raise click.ClickException(str(error)) from error
    exit_at_once(run(cluster, node_id, ends_with_stdin=ends_with_stdin))


@main.command("get")
@key
@nodes
def get_(key: bytes, nodes: str) -> None:
    """Print the value; exit code 1 when there is none."""
    found = _ask(nodes, lambda client: client.get(key))
    if found is None:
        _no("no value")
    click.echo(found)


@main.command("set")
@key
@value
@nodes
def set_(key: bytes, value: bytes, nodes: str) -> None:
    """Give the key a value."""
    _ask(nodes, lambda client: client.set(key, value))


@main.command()
@key
@value
@nodes
@click.option("--expected", type=str.encode, help="The value that has to be there; without it, none.")
def cas(key: bytes, value: bytes, expected: bytes | None, nodes: str) -> None:
    """Give the key a value if its present one is as expected; exit code 1 when it is not."""
    if not _ask(nodes, lambda client: client.compare_and_set(key, expected, value)):
        _no("the value is another one")


@main.command()
@key
@value
@nodes
def append(key: bytes, value: bytes, nodes: str) -> None:
    """Put text behind the value; print how many bytes it has now."""
    click.echo(_ask(nodes, lambda client: client.append(key, value)))


@main.command()
@key
@nodes
def delete(key: bytes, nodes: str) -> None:
    """Remove the value; exit code 1 when there was none."""
    if not _ask(nodes, lambda client: client.delete(key)):
        _no("no value")


@main.command()
@nodes
def status(nodes: str) -> None:
    """Print what each node knows."""
    for address in nodes.split(","):
        try:
            node, state = _ask(address, lambda client: client.describe())
        except (OSError, ValueError, EOFError) as error:
            click.echo(f"{address}: {error}")
        else:
            click.echo(f"{address}: node {node}, leader {state.leader}, term {state.term}, applied {state.applied}")


def _ask(nodes: str, question: Callable[[KeyValueClient], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with KeyValueClient(nodes.split(",")) as client:
            return await question(client)

    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(ask())
    except (Unavailable, Refused, BadAddress) as error:
        raise click.ClickException(str(error)) from error


def _no(reason: str) -> Any:
    click.echo(reason, err=True)
    raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
