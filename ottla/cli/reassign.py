"""`ottla topic reassign` and `ottla elect-leaders`: where replicas are, and which of them lead."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ottla.cli.client import connection, run, server_options
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client import Admin
    from ottla.client.settings import ConnectionSettings
    from ottla.client.types import TopicDescription, TopicPartition

THROTTLE = "leader.replication.throttled.rate"
LOOK_S = 0.2


@click.command()
@click.argument("name")
@click.option("--replicas", metavar="NODE,...", help="The replicas of each partition, the preferred leader first.")
@click.option(
    "--to-nodes", metavar="NODE,...", help="Spread the partitions over these nodes, as many replicas as before."
)
@click.option("--cancel", is_flag=True, help="Put back what is being moved.")
@click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this one; may be repeated."
)
@click.option("--throttle", type=click.IntRange(1), metavar="BYTES/S", help="The most that each node sends meanwhile.")
@click.option("--no-wait", is_flag=True, help="Return when it has begun. A throttle stays then.")
@server_options
def reassign(
    *,
    name: str,
    replicas: str | None,
    to_nodes: str | None,
    cancel: bool,
    partitions: tuple[int, ...],
    throttle: int | None,
    no_wait: bool,
    server: str,
    timeout: float,
) -> None:
    """Move the replicas of the topic NAME to other nodes, and wait until they have arrived."""
    if sum((replicas is not None, to_nodes is not None, cancel)) != 1:
        raise ConfigError("say one of --replicas, --to-nodes and --cancel")
    wanted = _nodes(replicas or to_nodes or "")
    run(
        _reassign(
            connection(server, timeout),
            name,
            None if cancel else wanted,
            spread=to_nodes is not None,
            partitions=partitions,
            throttle=throttle,
            wait=not no_wait,
        )
    )


async def _reassign(
    settings: "ConnectionSettings",
    name: str,
    nodes: Sequence[int] | None,
    *,
    spread: bool,
    partitions: Sequence[int],
    throttle: int | None,
    wait: bool,
) -> None:
    from ottla.client import Admin, TopicPartition

    async with Admin(**settings) as admin:
        topic = await admin.describe_topic(name)
        chosen = [one.partition for one in topic.partitions if not partitions or one.partition in partitions]
        if not chosen:
            raise ConfigError(f"{name} has no such partition: it has {len(topic.partitions)}")
        if nodes is None:
            moving = await admin.list_reassignments()
            chosen = [index for index in chosen if TopicPartition(name, index) in moving]
        targets: dict[TopicPartition, Sequence[int] | None] = {
            TopicPartition(name, index): None
            if nodes is None
            else spread_over(topic, index, nodes)
            if spread
            else nodes
            for index in chosen
        }
        if throttle is not None:
            await _throttle(admin, str(throttle))
        await admin.alter_reassignments(targets)
        if wait:
            await _watch(admin, targets)
            if throttle is not None:
                await _throttle(admin, None)


def spread_over(topic: "TopicDescription", index: int, nodes: Sequence[int]) -> list[int]:
    """Replicas of a partition, so that each node gets as many, and leads as many, as any other."""
    count = len(topic.partitions[index].replica_ids)
    if count > len(nodes):
        raise ConfigError(f"{topic.name}-{index} has {count} replicas: name as many nodes at least")
    # The second replicas of what one node leads are not all on the same other node.
    shift = index // len(nodes) % max(1, len(nodes) - 1)
    others = [nodes[(index + 1 + (step + shift) % (len(nodes) - 1)) % len(nodes)] for step in range(count - 1)]
    return [nodes[index % len(nodes)], *others]


async def _watch(admin: "Admin", targets: "dict[TopicPartition, Sequence[int] | None]") -> None:
    """Tell how far it is until it is done."""
    left = len(targets)
    while left:
        moving = await admin.list_reassignments()
        now = sum(one in moving for one in targets)
        if now != left or not now:
            left = now
            click.echo(f"{len(targets) - left} of {len(targets)} partition(s) moved.")
        if left:
            await asyncio.sleep(LOOK_S)


async def _throttle(admin: "Admin", rate: str | None) -> None:
    from ottla.client import ConfigResource

    cluster = await admin.describe_cluster()
    await admin.alter_configs({ConfigResource.broker(node.node_id): {THROTTLE: rate} for node in cluster.nodes})


@click.command("elect-leaders")
@click.option("--topic", "topics", multiple=True, help="Only partitions of this topic; may be repeated.")
@click.option("--unclean", is_flag=True, help="Where there is no leader let any replica lead: RECORDS MAY BE LOST.")
@server_options
def elect_leaders(*, topics: tuple[str, ...], unclean: bool, server: str, timeout: float) -> None:
    """Have the preferred replica of each partition lead: the first one."""
    changed = run(_elect(connection(server, timeout), topics, unclean=unclean))
    for topic, partition in sorted(changed):
        click.echo(f"{topic}-{partition} has another leader.")
    click.echo(f"{len(changed)} leader(s) changed.")


async def _elect(settings: "ConnectionSettings", topics: Sequence[str], *, unclean: bool) -> "list[TopicPartition]":
    from ottla.client import Admin, TopicPartition

    async with Admin(**settings) as admin:
        wanted = None
        if topics:
            found = await admin.describe_topics(topics)
            wanted = [TopicPartition(one.name, part.partition) for one in found for part in one.partitions]
        return await admin.elect_leaders(wanted, unclean=unclean)


def _nodes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise ConfigError(f"{text!r} are no node ids: write them with commas between")
    return [int(part) for part in parts]
