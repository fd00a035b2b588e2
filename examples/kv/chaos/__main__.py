"""`python -m examples.kv.chaos`: three nodes, killed again and again while clients write and read.

At the end all nodes are up, the clients' history is checked for linearizability, and the replicas are compared. Exit
code 1 when something is wrong; the nodes' data and logs are kept then.
"""

import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click
import uvloop

from examples.kv.chaos.run import run


@click.command(help=__doc__)
@click.option("--kills", type=click.IntRange(1), default=100, show_default=True, help="Processes to kill.")
@click.option("--clients", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seed", type=int, help="Of what is drawn; times are not repeated by it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="For all figures.")
def main(kills: int, clients: int, seed: int | None, json_path: Path | None) -> None:
    directory = Path(tempfile.mkdtemp(prefix="kv-chaos-"))
    seed = secrets.randbits(32) if seed is None else seed
    click.echo(f"seed {seed}, data and logs in {directory}", err=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(run(directory, kills=kills, seed=seed, clients=clients))
    click.echo(found)
    if json_path is not None:
        json_path.write_text(json.dumps(found.figures(), indent=1))
    if not found.is_good:
        sys.exit(1)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
