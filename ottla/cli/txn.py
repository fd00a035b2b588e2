"""`ottla txn`: lists, describes and aborts transactions, and finds those that nobody will end."""

import time
from typing import TYPE_CHECKING

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.durations import parse_duration_s, spoken
from ottla.cli.output import examples, json_option, print_json, print_pairs, print_table
from ottla.cli.partitions import parse_partition
from ottla.cli.states import OPEN_TRANSACTION_STATES, TRANSACTION_STATES, state_option
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client import HangingTransaction, TransactionDescription, TransactionListing
    from ottla.client.settings import ConnectionSettings


@click.group()
def txn() -> None:
    """List, describe and abort transactions; find those that nobody will end."""


@txn.command("list", epilog=examples("ottla txn list", "ottla txn list --state Ongoing --longer-than 30s --json"))
@state_option(TRANSACTION_STATES, "Only e.g. Ongoing, CompleteCommit.")
@click.option("--longer-than", metavar="DURATION", help="Only transactions that have been open for so long: 30s, 5m.")
@server_options
@json_option
def list_(*, states: tuple[str, ...], longer_than: str | None, server: str, timeout: float, as_json: bool) -> None:
    """List all transactional ids and the state of their transactions."""
    longer_than_ms = 0
    if longer_than is not None:
        longer_than_ms = int(parse_duration_s(longer_than, "--longer-than") * 1000)
        states = states or OPEN_TRANSACTION_STATES  # the cluster reckons from the beginning, also of what has ended
    found = run(_list(connection(server, timeout), states, longer_than_ms))
    if as_json:
        print_json(
            [
                {"transactional_id": one.transactional_id, "state": one.state, "producer": one.producer_id}
                for one in found
            ]
        )
        return
    print_table(
        ("transactional id", "state", "producer"),
        [(one.transactional_id, one.state, one.producer_id) for one in found],
    )


async def _list(
    settings: "ConnectionSettings", states: tuple[str, ...], longer_than_ms: int
) -> "list[TransactionListing]":
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        return await admin.list_transactions(states=states, longer_than_ms=longer_than_ms)


@txn.command(epilog=examples("ottla txn describe orders-1"))
@click.argument("names", nargs=-1, required=True, metavar="TRANSACTIONAL_ID...")
@server_options
@json_option
def describe(*, names: tuple[str, ...], server: str, timeout: float, as_json: bool) -> None:
    """Show the state, the producer and the partitions of transactions."""
    found = run(_describe(connection(server, timeout), names))
    now_ms = time.time() * 1000
    if as_json:
        print_json([_transaction_json(one) for one in found])
        return
    for one in found:
        since = spoken((now_ms - one.start_time_ms) / 1000) if one.start_time_ms >= 0 else None
        print_pairs(
            {
                "transactional id": one.transactional_id,
                "state": one.state,
                "coordinator": one.coordinator_id,
                "producer": f"{one.producer_id} epoch {one.producer_epoch}",
                "timeout": spoken(one.timeout_ms / 1000),
                "began": None if since is None else f"{since} ago",
                "partitions": [f"{part.topic}-{part.partition}" for part in one.partitions] or None,
            }
        )


async def _describe(settings: "ConnectionSettings", names: tuple[str, ...]) -> "list[TransactionDescription]":
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        return [await admin.describe_transaction(name) for name in names]


def _transaction_json(one: "TransactionDescription") -> dict[str, object]:
    return {
        "transactional_id": one.transactional_id,
        "state": one.state,
        "coordinator": one.coordinator_id,
        "producer": one.producer_id,
        "epoch": one.producer_epoch,
        "timeout_ms": one.timeout_ms,
        "start_time_ms": one.start_time_ms,
        "partitions": [list(part) for part in one.partitions],
    }


@txn.command(epilog=examples("ottla txn abort orders-1", "ottla txn abort --partition orders:3 --start-offset 1200"))
@click.argument("name", required=False, metavar="[TRANSACTIONAL_ID]")
@click.option("--partition", metavar="TOPIC:PARTITION", help="Where a transaction hangs.")
@click.option("--start-offset", type=click.IntRange(0), metavar="N", help="Where it begins there.")
@server_options
def abort(*, name: str | None, partition: str | None, start_offset: int | None, server: str, timeout: float) -> None:
    """Abort the transaction of TRANSACTIONAL_ID, or one that hangs in a partition.

    With a transactional id its producer is fenced: it can go on only by starting anew. With --partition and
    --start-offset, as `ottla txn find-hanging` and `ottla explain lso` tell them, an abort marker is written into that
    partition alone; do that only for a transaction that its coordinator does not know any more.
    """
    settings = connection(server, timeout)
    if name is not None and partition is None and start_offset is None:
        run(_abort(settings, name))
        click.echo(f"Aborted what was open under {name}; its producer is fenced.")
    elif name is None and partition is not None and start_offset is not None:
        run(_abort_partition(settings, partition, start_offset))
        click.echo(f"Aborted the transaction at offset {start_offset} of {partition}.")
    else:
        raise ConfigError("say which: either a transactional id, or --partition TOPIC:PARTITION with --start-offset N")


async def _abort(settings: "ConnectionSettings", name: str) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        await admin.abort_transaction(name)


async def _abort_partition(settings: "ConnectionSettings", partition: str, start_offset: int) -> None:
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        await admin.abort_partition(parse_partition(partition), start_offset)


@txn.command("find-hanging", epilog=examples("ottla txn find-hanging", "ottla txn find-hanging --topic orders --json"))
@click.option("--topic", "topics", multiple=True, help="Look only into this topic.")
@click.option(
    "--max-age",
    default="15m",
    show_default=True,
    metavar="DURATION",
    help="Look only at producers that have been silent for so long: the longest that a transaction may take.",
)
@server_options
@json_option
def find_hanging(*, topics: tuple[str, ...], max_age: str, server: str, timeout: float, as_json: bool) -> None:
    """Find transactions that are open in a partition though no coordinator will end them.

    They hold back readers of committed records for ever; `ottla txn abort --partition` ends them.
    """
    max_age_ms = int(parse_duration_s(max_age, "--max-age") * 1000)
    found = run(_find_hanging(connection(server, timeout), topics, max_age_ms))
    if as_json:
        print_json([_hanging_json(one) for one in found])
        return
    now_ms = time.time() * 1000
    print_table(
        ("topic", "partition", "start offset", "producer", "epoch", "silent for", "transactional id"),
        [
            (
                *one.partition,
                one.producer.transaction_start_offset,
                one.producer.producer_id,
                one.producer.producer_epoch,
                spoken((now_ms - one.producer.last_timestamp_ms) / 1000),
                one.transactional_id,
            )
            for one in found
        ],
    )


async def _find_hanging(
    settings: "ConnectionSettings", topics: tuple[str, ...], max_age_ms: int
) -> "list[HangingTransaction]":
    from ottla.client import Admin

    async with Admin(**settings) as admin:
        return await admin.find_hanging_transactions(
            topics or None, max_age_ms=max_age_ms, now_ms=int(time.time() * 1000)
        )


def _hanging_json(one: "HangingTransaction") -> dict[str, object]:
    return {
        "topic": one.partition.topic,
        "partition": one.partition.partition,
        "start_offset": one.producer.transaction_start_offset,
        "producer": one.producer.producer_id,
        "epoch": one.producer.producer_epoch,
        "last_timestamp_ms": one.producer.last_timestamp_ms,
        "transactional_id": one.transactional_id,
    }
