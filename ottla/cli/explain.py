"""`ottla explain`: why things stand as they do, and what to do about it."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.durations import spoken
from ottla.cli.output import examples, json_option, print_json, print_pairs
from ottla.cli.partitions import parse_partition

if TYPE_CHECKING:
    from ottla.client import ProducerState, TopicPartition, TransactionDescription
    from ottla.client.settings import ConnectionSettings, ConsumerSettings


@click.group()
def explain() -> None:
    """Say why things stand as they do, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stable:
    """A partition's last stable offset, and the transaction that holds it."""

    partition: "TopicPartition"
    high_watermark: int
    last_stable_offset: int
    holder: "ProducerState | None"
    transaction: "TransactionDescription | None"  # of the holder, where a coordinator knows it
    others: int  # further transactions that are open


@explain.command(epilog=examples("ottla explain lso orders:3", "ottla explain lso orders:3 --json"))
@click.argument("partition", metavar="TOPIC:PARTITION")
@server_options
@json_option
def lso(*, partition: str, server: str, timeout: float, as_json: bool) -> None:
    """Say who holds the last stable offset of a partition, since when, and what to do.

    Readers of committed records get nothing past the last stable offset: it stands where the oldest transaction that is
    open begins.
    """
    stable = run(_look(connection(server, timeout), parse_partition(partition)))
    now_ms = time.time() * 1000
    advice = what_to_do(stable, now_ms)
    holder, transaction = stable.holder, stable.transaction
    since_ms = -1 if transaction is None else transaction.start_time_ms
    if as_json:
        print_json(
            {
                "topic": stable.partition.topic,
                "partition": stable.partition.partition,
                "last_stable_offset": stable.last_stable_offset,
                "high_watermark": stable.high_watermark,
                "held": holder is not None,
                "producer": None if holder is None else holder.producer_id,
                "epoch": None if holder is None else holder.producer_epoch,
                "last_timestamp_ms": None if holder is None else holder.last_timestamp_ms,
                "transactional_id": None if transaction is None else transaction.transactional_id,
                "state": None if transaction is None else transaction.state,
                "start_time_ms": since_ms if since_ms >= 0 else None,
                "other_transactions": stable.others,
                "advice": advice,
            }
        )
        return
    pairs: dict[str, object] = {
        "last stable offset": stable.last_stable_offset,
        "high watermark": stable.high_watermark,
        "held back": stable.high_watermark - stable.last_stable_offset,
    }
    if holder is not None:
        pairs |= {
            "held by": "nobody known" if transaction is None else transaction.transactional_id,
            "producer": f"{holder.producer_id} epoch {holder.producer_epoch}",
            "last wrote": f"{spoken((now_ms - holder.last_timestamp_ms) / 1000)} ago",
            "began": f"{spoken((now_ms - since_ms) / 1000)} ago" if since_ms >= 0 else None,
            "state": None if transaction is None else transaction.state,
            "behind it": f"{stable.others} more open transaction(s)",
        }
    print_pairs(pairs)
    click.echo(f"\n{advice}")


async def _look(settings: "ConnectionSettings", partition: "TopicPartition") -> Stable:
    from ottla.client import Admin, Consumer

    async with Admin(**settings) as admin:
        states = (await admin.describe_producers([partition]))[partition]
        open_ = sorted(
            (one for one in states if one.transaction_start_offset >= 0), key=lambda one: one.transaction_start_offset
        )
        known = await admin.transactions_of([open_[0].producer_id]) if open_ else {}
        ends: list[int] = []
        for level in ("read_committed", "read_uncommitted"):
            async with Consumer(**cast("ConsumerSettings", {**settings, "isolation_level": level})) as consumer:
                ends.append((await consumer.end_offsets([partition]))[partition])
    return Stable(
        partition=partition,
        last_stable_offset=ends[0],
        high_watermark=ends[1],
        holder=open_[0] if open_ else None,
        transaction=known.get(open_[0].producer_id) if open_ else None,
        others=max(0, len(open_) - 1),
    )


def what_to_do(stable: Stable, now_ms: float) -> str:
    """One sentence or two for an operator."""
    from ottla.client.admin_transactions import is_hanging

    holder, transaction = stable.holder, stable.transaction
    if holder is None:
        if stable.last_stable_offset >= stable.high_watermark:
            return "Nothing holds it: all records are stable."
        return "No transaction is open; an end has just been written and is being replicated. Look again."
    topic, index = stable.partition
    if transaction is None or is_hanging(stable.partition, holder, transaction):
        start = holder.transaction_start_offset
        return (
            "No coordinator will end this transaction here: it hangs. Abort it: "
            f"ottla txn abort --partition {topic}:{index} --start-offset {start}"
        )
    name = transaction.transactional_id
    if transaction.state.startswith("Prepare"):
        end = "committed" if transaction.state == "PrepareCommit" else "aborted"
        return (
            f"It is decided: the transaction is being {end}. If that does not end, a partition of it has no leader: "
            f"ottla txn describe {name} names them, ottla topic describe shows their leaders."
        )
    left_ms = transaction.start_time_ms + transaction.timeout_ms - now_ms
    if left_ms > 0:
        return (
            f"Its producer is at work, or gone; in {spoken(left_ms / 1000)} the cluster aborts it. Sooner, if the "
            f"producer is gone for good: ottla txn abort {name}"
        )
    return (
        f"Its time is over, and its coordinator (node {transaction.coordinator_id}) should have aborted it; it looks "
        f"every few seconds. If it does not: ottla txn abort {name}"
    )
