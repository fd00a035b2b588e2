"""`ottla node format`: the data directory of a node that is not of an `ottla up`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ottla.cli.client import connection, run, tls_options
from ottla.core.errors import ConfigError
from ottla.core.types import NodeId, Uuid, parse_uuid

if TYPE_CHECKING:
    from ottla.client.settings import ConnectionSettings
    from ottla.node.voters import Voter


@click.command("format")
@click.option(
    "--dir", "directory", required=True, type=click.Path(path_type=Path, file_okay=False), help="Data directory."
)
@click.option("--node-id", required=True, type=click.IntRange(0), help="The node's number, unique in its cluster.")
@click.option("--cluster-id", help="The cluster's id; with --join the cluster itself is asked for it.")
@click.option(
    "--secret",
    "secret_file",
    required=True,
    type=click.File("rb"),
    help="A file with the cluster's secret, the same on all nodes (cluster.secret); - is standard input.",
)
@click.option(
    "--initial-voters",
    metavar="ID@HOST:PORT:DIRECTORY-ID,...",
    help="Found a cluster: the members of its quorum, this node among them, the same list on each of them.",
)
@click.option("--join", metavar="HOST:PORT,...", help="Come to the cluster whose gRPC door is there.")
@click.option("--peers", metavar="ID@HOST:PORT,...", help="Come to a cluster that is not running: internal listeners.")
@tls_options
def format_(
    *,
    directory: Path,
    node_id: int,
    cluster_id: str | None,
    secret_file: Any,
    initial_voters: str | None,
    join: str | None,
    peers: str | None,
) -> None:
    """Write the data directory of a new node, which `ottla node run` then starts.

    A node that joins follows the cluster and takes partitions; `ottla quorum add-voter` lets it vote.
    """
    from ottla.node.data_directory import Formatting, Identity, format_directory, random_uuid
    from ottla.node.observing import write_known_voters
    from ottla.node.peers import parse_peers
    from ottla.node.voters import parse_voters

    if sum(one is not None for one in (initial_voters, join, peers)) != 1:
        raise ConfigError("say one of --initial-voters (a new cluster), --join or --peers (one that there is)")
    secret = secret_file.read().strip()
    if not secret:
        raise ConfigError("the secret is empty: copy cluster.secret out of another node's data directory")
    node = NodeId(node_id)
    directory_id, known = random_uuid(), dict[NodeId, str]()
    voters: tuple[Voter, ...] = ()
    if initial_voters is not None:
        voters = parse_voters(initial_voters)
        mine = [voter for voter in voters if voter.node_id == node]
        if not mine:
            raise ConfigError(f"node {node_id} is not among the initial voters: add it, or use --join")
        directory_id = mine[0].directory_id
    elif join is not None:
        found_id, known = run(_ask(connection(join, 15.0)))
        if cluster_id not in (None, found_id):
            raise ConfigError(f"{join} is cluster {found_id}, not {cluster_id}")
        cluster_id = found_id
    else:
        known = dict(parse_peers(peers or ""))
    identity = Identity(cluster_id=_uuid(cluster_id), node_id=node, directory_id=directory_id)
    format_directory(directory, Formatting(identity=identity, secret=secret, voters=voters))
    if known:
        write_known_voters(directory, known)
    click.echo(f"Formatted {directory} for node {node_id} of cluster {cluster_id}.")


def _uuid(text: str | None) -> Uuid:
    if text is None:
        raise ConfigError("say --cluster-id, which is the same on all nodes")
    try:
        return parse_uuid(text)
    except ValueError:
        raise ConfigError(f"--cluster-id {text}: it has 22 characters, as `ottla cluster describe` shows it") from None


async def _ask(settings: "ConnectionSettings") -> tuple[str, dict[NodeId, str]]:
    """The cluster's id, and where its voters are."""
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        cluster, quorum = await admin.describe_cluster(), await admin.describe_quorum()
    return cluster.cluster_id, {NodeId(one.node_id): one.endpoint for one in quorum.voters if one.endpoint}
