"""`ottla down`: the end of the local cluster, from another terminal."""

from pathlib import Path

import click

from ottla.cli.local import directory_option, timeout_option
from ottla.node.local.asking import NotRunning, ask


@click.command()
@directory_option
@timeout_option
@click.option("--kill", is_flag=True, help="End it at once; nothing that was acknowledged is lost.")
def down(*, directory: Path, timeout: float, kill: bool) -> None:
    """Stop the cluster of a directory, and return when it is gone; the data stays."""
    try:
        ask(directory, "down", kill=kill, timeout_s=timeout)
    except NotRunning:
        click.echo(f"No cluster runs in {directory}.")
    else:
        click.echo(f"The cluster in {directory} is stopped; the data stays.")
