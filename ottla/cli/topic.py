"""`ottla topic`: creates, lists, describes, alters and deletes topics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ottla.cli.client import assignments, connection, run, server_options
from ottla.cli.output import json_option, print_json, print_pairs, print_table
from ottla.cli.reassign import reassign
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client.settings import ConnectionSettings
    from ottla.client.types import ConfigEntry, PartitionDescription, TopicDescription, TopicPartition

    Lags = Mapping[TopicPartition, Mapping[int, int]]  # of followers, by topic and partition


@click.group()
def topic() -> None:
    """Create, list, describe, alter and delete topics; move their replicas."""


topic.add_command(reassign)


@topic.command()
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1), help="Default: the cluster's num.partitions.")
@click.option("--replication-factor", type=click.IntRange(1), help="Default: the cluster's default.replication.factor.")
@click.option("--config", "configs", multiple=True, metavar="KEY=VALUE", help="A topic config.")
@click.option("--if-not-exists", is_flag=True, help="Leave a topic of that name as it is.")
@server_options
@json_option
def create(
    *,
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    configs: tuple[str, ...],
    if_not_exists: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Create the topic NAME."""
    values = assignments(configs, "--config")
    run(
        _create(
            connection(server, timeout),
            name,
            partitions,
            replication_factor,
            values,
            if_not_exists=if_not_exists,
            as_json=as_json,
        )
    )


async def _create(
    settings: "ConnectionSettings",
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    configs: dict[str, str],
    *,
    if_not_exists: bool,
    as_json: bool,
) -> None:
    from ottla.client import Admin, ClientError, ErrorCode

    async with Admin(**settings) as admin:
        try:
            created = await admin.create_topic(name, partitions, replication_factor, configs)
        except ClientError as error:
            if not (if_not_exists and error.code is ErrorCode.TOPIC_ALREADY_EXISTS):
                raise
            if as_json:
                print_json({"name": name, "created": False})
            else:
                click.echo(f"{name} exists.")
            return
    if as_json:
        print_json(
            {
                "name": name,
                "created": True,
                "id": created.topic_id,
                "partitions": created.num_partitions,
                "replication_factor": created.replication_factor,
            }
        )
    else:
        click.echo(
            f"Created {name}: {created.num_partitions} partition(s), replication factor {created.replication_factor}."
        )


@topic.command("list")
@click.option("--internal", is_flag=True, help="Also the cluster's own topics.")
@server_options
@json_option
def list_(*, internal: bool, server: str, timeout: float, as_json: bool) -> None:
    """List all topics."""
    run(_list(connection(server, timeout), internal=internal, as_json=as_json))


async def _list(settings: "ConnectionSettings", *, internal: bool, as_json: bool) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        topics = sorted(await admin.list_topics(include_internal=internal), key=lambda one: one.name)
    if as_json:
        print_json(
            [
                {"name": one.name, "id": one.topic_id, "partitions": one.num_partitions, "internal": one.internal}
                for one in topics
            ]
        )
    else:
        print_table(("topic", "partitions", "id"), [(one.name, one.num_partitions, one.topic_id) for one in topics])


@topic.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@server_options
@json_option
def describe(*, names: tuple[str, ...], server: str, timeout: float, as_json: bool) -> None:
    """Show the partitions and configs of topics."""
    run(_describe(connection(server, timeout), names, as_json=as_json))


async def _describe(settings: "ConnectionSettings", names: tuple[str, ...], *, as_json: bool) -> None:
    from ottla.client import Admin, ConfigResource

    async with Admin(**settings) as admin:
        topics = await admin.describe_topics(names)
        configs = await admin.describe_configs([ConfigResource.topic(name) for name in names])
        leaders = {part.leader_id for one in topics for part in one.partitions if part.leader_id >= 0}
        progress = await admin.describe_replicas(sorted(leaders), names)
    lags = {partition: found.lags for partition, found in progress.items()}
    if as_json:
        print_json([_topic_json(one, configs[ConfigResource.topic(one.name)], lags) for one in topics])
        return
    for one in topics:
        _show_topic(one, configs[ConfigResource.topic(one.name)], lags)


def _key(one: "TopicDescription", part: "PartitionDescription") -> "TopicPartition":
    from ottla.client import TopicPartition

    return TopicPartition(one.name, part.partition)


def _show_topic(one: "TopicDescription", configs: "dict[str, ConfigEntry]", lags: "Lags") -> None:
    changed = [f"{key}={entry.value}" for key, entry in sorted(configs.items()) if not entry.is_default]
    print_pairs({"topic": one.name, "id": one.topic_id, "configs": " ".join(changed) or "all defaults"})
    columns = ("partition", "leader", "epoch", "replicas", "in sync", "eligible", "offline", "lag")
    print_table(
        columns,
        [
            (
                part.partition,
                part.leader_id if part.leader_id >= 0 else None,
                part.leader_epoch,
                part.replica_ids,
                part.in_sync_replica_ids,
                part.eligible_leader_replica_ids or None,
                part.offline_replica_ids or None,
                [f"{node}:{lag}" for node, lag in lags.get(_key(one, part), {}).items()] or None,
            )
            for part in one.partitions
        ],
    )


def _topic_json(one: "TopicDescription", configs: "dict[str, ConfigEntry]", lags: "Lags") -> dict[str, object]:
    return {
        "name": one.name,
        "id": one.topic_id,
        "internal": one.internal,
        "partitions": [
            {
                "partition": part.partition,
                "leader": part.leader_id,
                "leader_epoch": part.leader_epoch,
                "replicas": list(part.replica_ids),
                "in_sync": list(part.in_sync_replica_ids),
                "eligible": list(part.eligible_leader_replica_ids),
                "offline": list(part.offline_replica_ids),
                "lag": {str(node): lag for node, lag in lags.get(_key(one, part), {}).items()},
            }
            for part in one.partitions
        ],
        "configs": {
            key: {"value": entry.value, "source": entry.source.name.lower()} for key, entry in sorted(configs.items())
        },
    }


@topic.command()
@click.argument("name")
@click.option("--config", "configs", multiple=True, metavar="KEY=VALUE", help="Set a topic config.")
@click.option("--unset", "unset", multiple=True, metavar="KEY", help="Put a topic config back to its default.")
@click.option("--partitions", type=click.IntRange(1), help="Give the topic this many partitions.")
@server_options
def alter(
    *,
    name: str,
    configs: tuple[str, ...],
    unset: tuple[str, ...],
    partitions: int | None,
    server: str,
    timeout: float,
) -> None:
    """Change configs of the topic NAME, or give it more partitions."""
    changes: dict[str, str | None] = {**assignments(configs, "--config"), **dict.fromkeys(unset)}
    if not changes and partitions is None:
        raise ConfigError("nothing to change: say --config KEY=VALUE, --unset KEY or --partitions N")
    run(_alter(connection(server, timeout), name, changes, partitions))
    click.echo(f"Altered {name}.")


async def _alter(
    settings: "ConnectionSettings", name: str, changes: dict[str, str | None], partitions: int | None
) -> None:
    from ottla.client import Admin, ConfigResource

    async with Admin(**settings) as admin:
        if changes:
            await admin.alter_configs({ConfigResource.topic(name): changes})
        if partitions is not None:
            await admin.create_partitions({name: partitions})


@topic.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@server_options
def delete(*, names: tuple[str, ...], server: str, timeout: float) -> None:
    """Delete topics with all their records."""
    run(_delete(connection(server, timeout), names))
    click.echo(f"Deleted {', '.join(names)}.")


async def _delete(settings: "ConnectionSettings", names: tuple[str, ...]) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        await admin.delete_topics(names)
