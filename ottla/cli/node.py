"""`ottla node`: one node as a service would run it, and the nodes of the local cluster."""

from pathlib import Path

import click

from ottla.cli import node_control, node_membership
from ottla.node.config import Layer, NodeConfig, from_assignments


@click.group()
def node() -> None:
    """Stop, start and pause local nodes; run one from a configuration file."""


node_control.add_to(node)
node_membership.add_to(node)


@node.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file; `ottla config example` prints one.",
)
@click.option("--dir", "directory", help="The data directory (data_dir).")
@click.option("--insecure", is_flag=True, default=None, help="Listen on other addresses than loopback, unencrypted.")
@click.option("--fresh", is_flag=True, help="Delete this node's data first.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A node field or one of Kafka's config names."
)
def run(
    *, file: Path | None, directory: str | None, insecure: bool | None, fresh: bool, assignments: tuple[str, ...]
) -> int:
    """Run a node in the foreground until SIGINT or SIGTERM; a second signal ends it at once."""
    from ottla.node.process import run as run_node

    return run_node(NodeConfig.load(flags=flags(directory, insecure, assignments), file=file), fresh=fresh)


def flags(directory: str | None, insecure: bool | None, assignments: tuple[str, ...]) -> Layer:
    """What stands on the command line, as a layer of the configuration."""
    named: dict[str, object] = {"data_dir": directory, "insecure": insecure}
    return from_assignments(assignments, node={name: value for name, value in named.items() if value is not None})
