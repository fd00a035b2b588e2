"""`ottla group`: lists, describes and deletes consumer groups; their lag, and where they read on."""

from typing import TYPE_CHECKING

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.group_lag import lag
from ottla.cli.group_reset import reset_offsets
from ottla.cli.output import examples, json_option, print_json, print_pairs, print_table
from ottla.cli.states import GROUP_STATES, state_option

if TYPE_CHECKING:
    from ottla.client import GroupDescription, GroupMember, TopicPartition
    from ottla.client.settings import ConnectionSettings


@click.group()
def group() -> None:
    """List, describe and delete consumer groups; show their lag, and move where they read on."""


group.add_command(lag)
group.add_command(reset_offsets)


@group.command("list", epilog=examples("ottla group list", "ottla group list --state Empty --json"))
@state_option(GROUP_STATES, "Only groups that are e.g. Stable or Empty.")
@click.option("--type", "types", multiple=True, type=click.Choice(["classic", "consumer"]), help="Only this protocol.")
@server_options
@json_option
def list_(*, states: tuple[str, ...], types: tuple[str, ...], server: str, timeout: float, as_json: bool) -> None:
    """List all groups.

    A group's type is the protocol that its members speak: `consumer` (KIP-848, where the broker assigns partitions) or
    `classic` (where one of the members does).
    """
    run(_list(connection(server, timeout), states, types, as_json=as_json))


async def _list(
    settings: "ConnectionSettings", states: tuple[str, ...], types: tuple[str, ...], *, as_json: bool
) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        groups = await admin.list_groups(states=states, types=types)
    if as_json:
        print_json(
            [
                {"group": one.group_id, "type": one.type, "state": one.state, "protocol_type": one.protocol_type}
                for one in groups
            ]
        )
        return
    print_table(
        ("group", "type", "state", "protocol"),
        [(one.group_id, one.type, one.state, one.protocol_type or None) for one in groups],
    )


@group.command(epilog=examples("ottla group describe billing", "ottla group describe billing audit --json"))
@click.argument("names", nargs=-1, required=True, metavar="GROUP...")
@server_options
@json_option
def describe(*, names: tuple[str, ...], server: str, timeout: float, as_json: bool) -> None:
    """Show the state and the members of groups.

    A member's target is what it is to read once others have given it up; it is shown where it differs from what the
    member reads now.
    """
    run(_describe(connection(server, timeout), names, as_json=as_json))


async def _describe(settings: "ConnectionSettings", names: tuple[str, ...], *, as_json: bool) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        groups = await admin.describe_groups(names)
    if as_json:
        print_json([_group_json(one) for one in groups])
        return
    for one in groups:
        _show(one)


def _show(one: "GroupDescription") -> None:
    print_pairs(
        {
            "group": one.group_id,
            "type": one.type,
            "state": one.state,
            "coordinator": one.coordinator_id,
            "assignor": one.assignor or None,
            "epoch": one.group_epoch if one.group_epoch >= 0 else None,
        }
    )
    if not one.members:
        return
    print_table(
        ("member", "instance", "client", "host", "epoch", "reads", "target"),
        [
            (
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.member_epoch if member.member_epoch >= 0 else None,
                _names(member.assignment) or None,
                _names(member.target) if set(member.target) != set(member.assignment) else None,
            )
            for member in one.members
        ],
    )


def _names(partitions: "tuple[TopicPartition, ...]") -> list[str]:
    return [f"{one.topic}-{one.partition}" for one in sorted(partitions)]


def _group_json(one: "GroupDescription") -> dict[str, object]:
    return {
        "group": one.group_id,
        "type": one.type,
        "state": one.state,
        "coordinator": one.coordinator_id,
        "protocol_type": one.protocol_type,
        "assignor": one.assignor,
        "epoch": one.group_epoch,
        "assignment_epoch": one.assignment_epoch,
        "members": [_member_json(member) for member in one.members],
    }


def _member_json(member: "GroupMember") -> dict[str, object]:
    return {
        "member": member.member_id,
        "instance": member.instance_id,
        "rack": member.rack_id,
        "client": member.client_id,
        "host": member.client_host,
        "epoch": member.member_epoch,
        "topics": list(member.topics),
        "topic_regex": member.topic_regex,
        "assignment": [list(one) for one in sorted(member.assignment)],
        "target": [list(one) for one in sorted(member.target)],
    }


@group.command(epilog=examples("ottla group delete billing"))
@click.argument("names", nargs=-1, required=True, metavar="GROUP...")
@server_options
def delete(*, names: tuple[str, ...], server: str, timeout: float) -> None:
    """Delete groups that have no members, with all that they have committed.

    Consumers that come back under the name begin where their auto.offset.reset says.
    """
    run(_delete(connection(server, timeout), names))
    click.echo(f"Deleted {', '.join(names)}.")


async def _delete(settings: "ConnectionSettings", names: tuple[str, ...]) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        await admin.delete_groups(names)
