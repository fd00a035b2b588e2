"""`ottla group lag`: how far groups are behind, in records and in time."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.durations import spoken
from ottla.cli.group_name import group_argument
from ottla.cli.output import examples, json_option, print_json, print_table

if TYPE_CHECKING:
    from ottla.client import Admin, Consumer, GroupMember, TopicPartition
    from ottla.client.settings import ConnectionSettings, ConsumerSettings

    Reader = Consumer[bytes | None, bytes | None]

POLL_MS = 100
ENOUGH_BYTES = 1  # of a partition: the leader gives one whole batch anyhow


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """One partition that a group reads."""

    partition: "TopicPartition"
    committed: int | None  # None: nothing is
    end: int
    behind_s: float | None
    member: "GroupMember | None"

    @property
    def records(self) -> int | None:
        """How many offsets lie before the end. A transaction's markers count, too: nobody can tell them apart."""
        return None if self.committed is None else max(0, self.end - self.committed)


@click.command(epilog=examples("ottla group lag billing", "ottla group lag billing --topic orders --json"))
@group_argument
@click.option("--topic", "topics", multiple=True, help="Only partitions of this topic.")
@server_options
@json_option
def lag(*, name: str, topics: tuple[str, ...], server: str, timeout: float, as_json: bool) -> None:
    """Show how far GROUP is behind the end of what it reads, in records and in seconds.

    Seconds are the age of the record at the committed offset, the first that is not processed: how long it has been
    waiting. A group that has read everything is 0 s behind. What was never committed shows no lag.
    """
    found = run(measure(connection(server, timeout), name, topics, timeout))
    if as_json:
        print_json(
            {
                "group": name,
                "lag": sum(one.records or 0 for one in found),
                "behind_s": max((one.behind_s for one in found if one.behind_s is not None), default=None),
                "partitions": [_row_json(one) for one in found],
            }
        )
        return
    print_table(
        ("topic", "partition", "committed", "end", "lag", "behind", "member", "client"),
        [
            (
                *one.partition,
                one.committed,
                one.end,
                one.records,
                None if one.behind_s is None else spoken(one.behind_s),
                None if one.member is None else one.member.member_id,
                None if one.member is None else one.member.client_id,
            )
            for one in found
        ],
    )


def _row_json(one: PartitionLag) -> dict[str, object]:
    return {
        "topic": one.partition.topic,
        "partition": one.partition.partition,
        "committed": one.committed,
        "end": one.end,
        "lag": one.records,
        "behind_s": one.behind_s,
        "member": None if one.member is None else one.member.member_id,
        "client": None if one.member is None else one.member.client_id,
    }


async def measure(
    settings: "ConnectionSettings", group_id: str, topics: tuple[str, ...], timeout_s: float
) -> list[PartitionLag]:
    """The lag of each partition that the group has committed something of, or that a member reads."""
    from ottla.client import Admin, Consumer

    async with Admin(**settings) as admin:
        owners, committed = await _asked(admin, group_id)
        if topics:
            await admin.describe_topics(topics)  # that one does not exist is another thing than that nothing is read
    partitions = sorted(one for one in {*owners, *committed} if not topics or one.topic in topics)
    if not partitions:
        return []
    async with Consumer(**_reading(settings)) as consumer:
        ends = await consumer.end_offsets(partitions)
        starts = await consumer.beginning_offsets(partitions)
        behind = {
            one: max(committed[one], starts[one])
            for one in partitions
            if one in committed and max(committed[one], starts[one]) < ends[one]
        }
        times = await _times(consumer, behind, ends, timeout_s)
    now = time.time()
    return [
        PartitionLag(
            partition=one,
            committed=committed.get(one),
            end=ends[one],
            behind_s=_behind(now, one in committed, one in behind, times.get(one)),
            member=owners.get(one),
        )
        for one in partitions
    ]


async def _asked(
    admin: "Admin", group_id: str
) -> "tuple[dict[TopicPartition, GroupMember], dict[TopicPartition, int]]":
    described = await admin.describe_group(group_id)
    owners = {partition: member for member in described.members for partition in member.assignment}
    committed = {partition: one.offset for partition, one in (await admin.list_group_offsets(group_id)).items()}
    return owners, committed


def _reading(settings: "ConnectionSettings") -> "ConsumerSettings":
    return cast(
        "ConsumerSettings", {**settings, "auto_offset_reset": "earliest", "max_partition_fetch_bytes": ENOUGH_BYTES}
    )


def _behind(now: float, known: bool, behind: bool, timestamp_ms: int | None) -> float | None:
    if not known:
        return None
    if not behind:
        return 0.0
    return None if timestamp_ms is None else round(max(0.0, now - timestamp_ms / 1000), 3)


async def _times(
    consumer: "Reader",
    offsets: "Mapping[TopicPartition, int]",
    ends: "Mapping[TopicPartition, int]",
    timeout_s: float,
) -> "dict[TopicPartition, int]":
    """The timestamp of the first record at or after each offset; without those where there is none before the end."""
    found: dict[TopicPartition, int] = {}
    missing = set(offsets)
    consumer.assign(missing)
    for partition, offset in offsets.items():
        consumer.seek(partition, offset)
    deadline = asyncio.get_running_loop().time() + timeout_s
    while missing and asyncio.get_running_loop().time() < deadline:
        for partition, records in (await consumer.poll(POLL_MS)).items():
            found.setdefault(partition, records[0].timestamp)
        for partition in list(missing):
            # Control records move the position and give nothing: the end of a transaction may be all there is.
            if partition in found or await consumer.position(partition) >= ends[partition]:
                missing.discard(partition)
                consumer.pause(partition)
    return found
