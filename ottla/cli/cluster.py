"""`ottla cluster`: what the cluster says about itself."""

from typing import TYPE_CHECKING

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.output import json_option, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from ottla.client.settings import ConnectionSettings
    from ottla.client.types import Node


@click.group()
def cluster() -> None:
    """Describe the cluster."""


@cluster.command()
@server_options
@json_option
def describe(*, server: str, timeout: float, as_json: bool) -> None:
    """Show the cluster's id, its controller and its nodes: fenced or not, where they are, in which rack."""
    run(_describe(connection(server, timeout), as_json=as_json))


async def _describe(settings: "ConnectionSettings", *, as_json: bool) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        found = await admin.describe_cluster()
    nodes = sorted(found.nodes, key=lambda node: node.node_id)
    if as_json:
        print_json(
            {
                "id": found.cluster_id,
                "controller": found.controller_id,
                "nodes": [
                    {
                        "id": node.node_id,
                        "grpc": f"{node.host}:{node.port}",
                        "rack": node.rack,
                        "state": _state(node),
                        "replication": node.replication or None,
                    }
                    for node in nodes
                ],
            }
        )
        return
    print_pairs({"cluster": found.cluster_id, "controller": found.controller_id if found.controller_id >= 0 else None})
    print_table(
        ("node", "state", "role", "grpc", "replication", "rack"),
        [
            (
                node.node_id,
                _state(node),
                "controller" if node.node_id == found.controller_id else None,
                f"{node.host}:{node.port}",
                node.replication or None,
                node.rack,
            )
            for node in nodes
        ],
    )


def _state(node: "Node") -> str:
    if node.fenced:
        return "fenced"
    return "stopping" if node.stopping else "active"
