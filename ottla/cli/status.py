"""`ottla status`: the nodes of the local cluster, and how each stands in it."""

from pathlib import Path
from typing import Any

import click

from ottla.cli.local import directory_option
from ottla.cli.node_rows import COLUMNS, row
from ottla.cli.output import json_option, print_json, print_pairs, print_table
from ottla.node.local.asking import status as ask_status

ANSWER_S = 5.0


@click.command()
@directory_option
@json_option
def status(*, directory: Path, as_json: bool) -> None:
    """Show the nodes of the cluster that `ottla up` started: state, role, what they lead, their traffic."""
    found = ask_status(directory, timeout_s=ANSWER_S)
    if as_json:
        print_json(found)
        return
    print_pairs(
        {
            "kafka": found["bootstrap"] or None,
            "grpc": found["grpc"] or None,
            "data": found["dir"],
            "controller": _controller(found["nodes"]),
        }
    )
    click.echo()
    print_table(COLUMNS, [row(node, node["per_second"]) for node in found["nodes"]])


def _controller(nodes: list[dict[str, Any]]) -> int | None:
    """The node that leads the quorum, or whom the others take for it."""
    standings = [(node["id"], node["standing"]) for node in nodes if node["standing"]]
    leaders = [number for number, standing in standings if standing["role"] == "leader"]
    named = [standing["controller"] for _, standing in standings if standing["controller"] >= 0]
    return next(iter(leaders + named), None)
