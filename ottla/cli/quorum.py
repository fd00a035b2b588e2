"""`ottla quorum`: who votes on the cluster's metadata."""

from typing import TYPE_CHECKING

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.output import json_option, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from ottla.client.operations import QuorumDescription, QuorumMember
    from ottla.client.settings import ConnectionSettings


@click.group()
def quorum() -> None:
    """Show and change who votes on the cluster's metadata."""


@quorum.command()
@server_options
@json_option
def status(*, server: str, timeout: float, as_json: bool) -> None:
    """Show the leader, the term, and how far each member is."""
    found = run(_describe(connection(server, timeout)))
    if as_json:
        print_json(
            {
                "leader": found.leader_id,
                "term": found.term,
                "committed": found.commit_index,
                "voters": [_member_json(found, one) for one in found.voters],
                "observers": [_member_json(found, one) for one in found.observers],
            }
        )
        return
    print_pairs({"leader": found.leader_id, "term": found.term, "committed": found.commit_index})
    rows = [
        (
            one.node_id,
            "leader" if one.node_id == found.leader_id else role,
            one.log_end_index if one.log_end_index >= 0 else None,
            _lag(found, one),
            one.endpoint or None,
            one.directory_id,
        )
        for role, members in (("voter", found.voters), ("observer", found.observers))
        for one in members
    ]
    print_table(("node", "role", "match", "lag", "internal", "directory"), rows)


async def _describe(settings: "ConnectionSettings") -> "QuorumDescription":
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        return await admin.describe_quorum()


def _lag(quorum: "QuorumDescription", member: "QuorumMember") -> int | None:
    return max(0, quorum.commit_index - member.log_end_index) if member.log_end_index >= 0 else None


def _member_json(quorum: "QuorumDescription", one: "QuorumMember") -> dict[str, object]:
    return {
        "node": one.node_id,
        "match": one.log_end_index,
        "lag": _lag(quorum, one),
        "internal": one.endpoint,
        "directory": one.directory_id,
    }


@quorum.command("add-voter")
@click.argument("node", type=click.IntRange(0))
@server_options
def add_voter(*, node: int, server: str, timeout: float) -> None:
    """Let NODE vote, which runs and follows already."""
    run(_add(connection(server, timeout), node, int(timeout * 1000)))
    click.echo(f"Node {node} votes.")


async def _add(settings: "ConnectionSettings", node: int, timeout_ms: int) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        await admin.add_voter(node, timeout_ms=timeout_ms)


@quorum.command("remove-voter")
@click.argument("node", type=click.IntRange(0))
@server_options
def remove_voter(*, node: int, server: str, timeout: float) -> None:
    """Let NODE vote no more; it goes on as a broker."""
    run(_remove(connection(server, timeout), node))
    click.echo(f"Node {node} does not vote any more.")


async def _remove(settings: "ConnectionSettings", node: int) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        await admin.remove_voter(node)


@quorum.command()
@click.argument("node", type=click.IntRange(0))
@server_options
def transfer(*, node: int, server: str, timeout: float) -> None:
    """Have NODE lead the quorum, and be the active controller."""
    run(_transfer(connection(server, timeout), node))
    click.echo(f"Node {node} leads the quorum.")


async def _transfer(settings: "ConnectionSettings", node: int) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        await admin.transfer_leadership(node)
