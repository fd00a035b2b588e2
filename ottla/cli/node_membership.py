"""`ottla node add|remove|replace`: nodes that come to a cluster and go, while it serves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ottla.cli import membership_steps as steps
from ottla.cli.client import run
from ottla.cli.membership_target import Target, target, target_options
from ottla.cli.node_format import format_
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client import Admin


@click.command()
@click.argument("node", type=click.IntRange(0), required=False)
@click.option("--vote", is_flag=True, help="Let it vote on the metadata too; the number of voters had better be odd.")
@target_options
def add(*, node: int | None, vote: bool, directory: Path, server: str | None, timeout: float) -> None:
    """Add a node to a running cluster: NODE, or the lowest free number.

    It takes new partitions from now on; `ottla topic reassign` moves old ones to it. Of a cluster elsewhere this tells
    what is to be done on the new node's machine, and then, run again, lets it vote.
    """
    run(_add(target(directory, server, timeout), node, vote=vote))


async def _add(cluster: Target, node: int | None, *, vote: bool) -> None:
    from ottla.client import Admin

    async with Admin(**cluster.settings) as admin:
        if cluster.directory is not None:
            node = await _make(admin, cluster, cluster.directory, node)
            click.echo(f"Node {node} runs and follows.")
        elif node is None:
            raise ConfigError("say the new node's number: one that no node of the cluster has")
        elif not any(one.node_id == node and not one.fenced for one in (await admin.describe_cluster()).nodes):
            click.echo(_on_its_machine(cluster, node) + f"Then here: ottla node add {node}{' --vote' if vote else ''}")
            return
        if vote:
            await steps.let_vote(admin, node, cluster.timeout_s)


async def _make(admin: "Admin", cluster: Target, directory: Path, node: int | None) -> int:
    from ottla.node.data_directory import is_formatted
    from ottla.node.founding import MAX_NODES
    from ottla.node.local.members import free_number, node_directory

    if node in cluster.members:
        raise ConfigError(f"node {node} is a node of the cluster already")
    if len(cluster.members) >= MAX_NODES:
        raise ConfigError(f"a cluster on one machine has at most {MAX_NODES} nodes")
    node = free_number(directory, cluster.members) if node is None else node
    if node is None:
        raise ConfigError(f"{directory} holds data of nodes that were removed: delete one of these directories")
    if not 1 <= node <= MAX_NODES:
        raise ConfigError(f"node {node}: the nodes of a cluster on one machine have the numbers 1 to {MAX_NODES}")
    if is_formatted(node_directory(directory, node)):
        raise ConfigError(f"{node_directory(directory, node)} holds data: delete it, or add another number")
    await _format(admin, cluster, directory, node)
    cluster.tell("add", node)
    return node


async def _format(admin: "Admin", cluster: Target, directory: Path, node: int, *, fresh: bool = False) -> None:
    """Of a local cluster: the directory of a node that joins it."""
    from ottla.core.types import NodeId, parse_uuid
    from ottla.node.data_directory import SECRET, Formatting, Identity, format_directory, random_uuid
    from ottla.node.local.members import node_directory
    from ottla.node.observing import write_known_voters

    secrets = [node_directory(directory, one) / SECRET for one in cluster.members if one != node]
    secret = next((path.read_bytes().strip() for path in secrets if path.exists()), None)
    if secret is None:
        raise ConfigError(f"no other node of {directory} has the cluster's secret ({SECRET})")
    found, quorum = await admin.describe_cluster(), await admin.describe_quorum()
    identity = Identity(cluster_id=parse_uuid(found.cluster_id), node_id=NodeId(node), directory_id=random_uuid())
    path = node_directory(directory, node)
    format_directory(path, Formatting(identity=identity, secret=secret, voters=()), fresh=fresh)
    write_known_voters(path, {NodeId(one.node_id): one.endpoint for one in quorum.voters if one.endpoint})


def _on_its_machine(cluster: Target, node: int) -> str:
    join = cluster.settings["bootstrap_servers"]
    return (
        f"On the machine of node {node}, with cluster.secret out of another node's data directory:\n"
        f"  ottla node format --dir DATA --node-id {node} --join {join} --secret cluster.secret\n"
        f"  ottla node run --dir DATA --set node_id={node} (and its listeners: `ottla config example`)\n"
    )


@click.command()
@click.argument("node", type=click.IntRange(0))
@target_options
def remove(*, node: int, directory: Path, server: str | None, timeout: float) -> None:
    """Remove NODE from the cluster for good, while the others serve.

    Its replicas move to other nodes, another node votes in its place if one is there, it is stopped, and forgotten.
    Of a cluster elsewhere it has to be stopped by hand when this says so. May be run again when it was interrupted.
    """
    run(_remove(target(directory, server, timeout), node))
    click.echo(f"Node {node} does not belong to the cluster any more.")


async def _remove(cluster: Target, node: int) -> None:
    from ottla.client import Admin

    async with Admin(**cluster.settings) as admin:
        if not any(one.node_id == node for one in (await admin.describe_cluster()).nodes):
            if node not in cluster.members:
                raise ConfigError(f"the cluster has no node {node}")
            _forget(cluster, node)  # all that an earlier run left to be done
            return
        await steps.drain(admin, node)
        await steps.hand_vote_on(admin, node, cluster.timeout_s)
        if node in cluster.alive:
            cluster.tell("stop", node)
            click.echo(f"Node {node} has stopped.")
        elif cluster.directory is None:
            click.echo(f"Node {node} is not needed any more. It is forgotten when it has stopped; waiting for that.")
        await steps.until_fenced(admin, node, cluster.timeout_s)
        await steps.drain(admin, node)  # of topics that were created in the meantime
        await admin.unregister_node(node)
    if node in cluster.members:
        _forget(cluster, node)


def _forget(cluster: Target, node: int) -> None:
    cluster.tell("forget", node)
    click.echo(f"Its data in {cluster.directory}/node-{node} can be deleted.")


@click.command()
@click.argument("node", type=click.IntRange(0))
@click.option("--accept-loss", is_flag=True, help="Also when records are lost that nobody else has.")
@click.option("--fresh", is_flag=True, help="Delete what is left of its data first (of a local cluster).")
@target_options
def replace(*, node: int, accept_loss: bool, fresh: bool, directory: Path, server: str | None, timeout: float) -> None:
    """Let NODE, whose disk is lost, come back with an empty one.

    It has to be stopped. The cluster forgets what it had and its vote; it is formatted and started, gets its replicas
    from the others, and votes again. Of a cluster elsewhere this tells what is to be done on the node's machine.
    """
    cluster = target(directory, server, timeout)
    if cluster.directory is not None:
        _check_lost(cluster, cluster.directory, node, fresh=fresh)
    run(_replace(cluster, node, accept_loss=accept_loss, fresh=fresh))


def _check_lost(cluster: Target, directory: Path, node: int, *, fresh: bool) -> None:
    from ottla.node.data_directory import is_formatted
    from ottla.node.local.members import node_directory

    if node not in cluster.members:
        raise ConfigError(f"there is no node {node}: this cluster has {', '.join(map(str, cluster.members))}")
    if node in cluster.alive:
        raise ConfigError(f"node {node} is running: stop it first, if its disk is to be given up")
    path = node_directory(directory, node)
    if is_formatted(path) and not fresh:
        raise ConfigError(f"{path} holds data: start the node with it, or give it up with --fresh")


async def _replace(cluster: Target, node: int, *, accept_loss: bool, fresh: bool) -> None:
    from ottla.client import Admin

    async with Admin(**cluster.settings) as admin:
        if cluster.directory is not None:
            await steps.until_fenced(admin, node, cluster.timeout_s)
        for topic, partition in await admin.replace_node(node, accept_loss=accept_loss):
            click.echo(f"The records of {topic}-{partition} are lost.")
        voters = [one.node_id for one in (await admin.describe_quorum()).voters]
        votes = node in voters or len(voters) % 2 == 0  # an even number: an earlier run took its vote
        if node in voters:  # its vote was on that disk
            await steps.take_vote(admin, node, cluster.timeout_s)
        if cluster.directory is None:
            click.echo(
                f"Node {node} may register once with a new data directory.\n{_on_its_machine(cluster, node)}", nl=False
            )
            if votes:
                click.echo(f"Then here: ottla quorum add-voter {node}")
            return
        await _format(admin, cluster, cluster.directory, node, fresh=fresh)
        cluster.tell("add", node)
        click.echo(f"Node {node} runs with an empty disk.")
        if votes:
            await steps.let_vote(admin, node, cluster.timeout_s)
        await steps.until_in_sync(admin, node)


def add_to(group: "Callable[..., Any] | click.Group") -> None:
    """Put all of them into `ottla node`."""
    assert isinstance(group, click.Group)
    commands: Mapping[str, click.Command] = {"format": format_, "add": add, "remove": remove, "replace": replace}
    for name, command in commands.items():
        group.add_command(command, name)
