"""`ottla group reset-offsets`: where a group without members reads on. Shown first, done with `--execute`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.durations import parse_duration_s
from ottla.cli.group_name import group_argument
from ottla.cli.moments import moment_ms
from ottla.cli.offset_file import parse_offsets
from ottla.cli.output import examples, json_option, print_json, print_table
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client import Admin, Consumer, TopicPartition
    from ottla.client.settings import ConnectionSettings

    Reader = Consumer[bytes | None, bytes | None]
    Offsets = Mapping[TopicPartition, int]

_AT_REST = ("Empty", "Dead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to go; one of the fields is set."""

    place: str = ""  # "earliest", "latest", "current"
    offset: int | None = None
    shift: int | None = None
    time_ms: int | None = None
    each: Mapping[tuple[str, int], int] | None = None  # by topic and partition


@click.command(
    "reset-offsets",
    epilog=examples(
        "ottla group reset-offsets billing --all-topics --to-earliest",
        "ottla group reset-offsets billing --topic orders --by-duration 2h --execute",
        "ottla group reset-offsets billing --topic orders:0,2 --shift-by -10 --execute",
        "ottla group reset-offsets billing --topic orders --to-datetime 2026-01-31T12:00:00Z",
        "ottla group reset-offsets billing --from-file offsets.csv --execute",
    ),
)
@group_argument
@click.option("--topic", "topics", multiple=True, metavar="TOPIC[:P,P]", help="This topic, or these partitions of it.")
@click.option("--all-topics", is_flag=True, help="Every topic of which the group has committed something.")
@click.option("--to-earliest", is_flag=True, help="The first record that is kept.")
@click.option("--to-latest", is_flag=True, help="After the last record.")
@click.option("--to-current", is_flag=True, help="What is committed, and where nothing is, after the last record.")
@click.option("--to-offset", type=click.IntRange(0), metavar="N", help="This offset.")
@click.option("--shift-by", type=int, metavar="N", help="N records on from what is committed; back when negative.")
@click.option("--to-datetime", metavar="TIME", help="The first record of that time or later: 2026-01-31T12:00:00Z.")
@click.option("--by-duration", metavar="DURATION", help="The first record of the last 90m, 2h, 1d12h (or PT90M).")
@click.option(
    "--from-file",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="The offsets of lines TOPIC,PARTITION,OFFSET, as Kafka's tool exports them; - is standard input.",
)
@click.option("--execute", is_flag=True, help="Do it; without this flag it is only shown.")
@server_options
@json_option
def reset_offsets(
    *,
    name: str,
    topics: tuple[str, ...],
    all_topics: bool,
    to_earliest: bool,
    to_latest: bool,
    to_current: bool,
    to_offset: int | None,
    shift_by: int | None,
    to_datetime: str | None,
    by_duration: str | None,
    from_file: TextIO | None,
    execute: bool,
    server: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Have GROUP read on from elsewhere.

    The group must have no members: stop its consumers first, for they would commit over it. Without --execute the
    command only shows what it would do. Offsets that are not there become the nearest that is: --to-current mends those
    that retention has passed. A group that does not exist yet is made by it.
    """
    chosen = [
        *([Target(place="earliest")] if to_earliest else []),
        *([Target(place="latest")] if to_latest else []),
        *([Target(place="current")] if to_current else []),
        *([Target(offset=to_offset)] if to_offset is not None else []),
        *([Target(shift=shift_by)] if shift_by is not None else []),
        *([Target(time_ms=parse_moment_ms(to_datetime))] if to_datetime is not None else []),
        *(
            [Target(time_ms=int((time.time() - parse_duration_s(by_duration, "--by-duration")) * 1000))]
            if by_duration
            else []
        ),
        *([Target(each=parse_offsets(from_file, name, f"--from-file {from_file.name}"))] if from_file else []),
    ]
    if len(chosen) != 1:
        raise ConfigError(
            "say where to go with just one of --to-earliest, --to-latest, --to-current, --to-offset, --shift-by, "
            "--to-datetime, --by-duration, --from-file"
        )
    if from_file is not None:
        if topics or all_topics:
            raise ConfigError("--from-file says itself which partitions: leave --topic and --all-topics out")
    elif bool(topics) == all_topics:
        raise ConfigError("say which partitions: either --topic TOPIC or TOPIC:0,1, or --all-topics")
    rows = run(_reset(connection(server, timeout), name, topics, chosen[0], execute=execute))
    if as_json:
        print_json(
            {
                "group": name,
                "executed": execute,
                "partitions": [
                    {"topic": one.topic, "partition": one.partition, "committed": before, "new": after}
                    for one, before, after in rows
                ],
            }
        )
        return
    print_table(
        ("topic", "partition", "committed", "new", "change"),
        [(*one, before, after, None if before is None else f"{after - before:+d}") for one, before, after in rows],
    )
    if not execute:
        click.echo("Nothing is changed yet: add --execute to do it.", err=True)


def parse_moment_ms(text: str) -> int:
    """Milliseconds since 1970; raises ConfigError."""
    try:
        return moment_ms(text)
    except ValueError:
        raise ConfigError(f"--to-datetime {text}: write a time such as 2026-01-31T12:00:00Z") from None


def parse_topics(texts: tuple[str, ...]) -> dict[str, set[int] | None]:
    """`TOPIC` and `TOPIC:0,1` as the wanted partitions by topic, None for all; raises ConfigError."""
    wanted: dict[str, set[int] | None] = {}
    for text in texts:
        name, colon, numbers = text.partition(":")
        if not colon:
            wanted[name] = None
            continue
        parts = numbers.split(",")
        if not name or not all(part.isdecimal() for part in parts):
            raise ConfigError(f"--topic {text}: write --topic TOPIC or --topic TOPIC:0,1")
        before = wanted.setdefault(name, set())
        if before is not None:
            before.update(int(part) for part in parts)
    return wanted


def _of_file(offsets: Mapping[tuple[str, int], int]) -> dict[str, set[int] | None]:
    wanted: dict[str, set[int]] = {}
    for topic, partition in offsets:
        wanted.setdefault(topic, set()).add(partition)
    return dict(wanted)


async def _reset(
    settings: "ConnectionSettings", group_id: str, topics: tuple[str, ...], target: Target, *, execute: bool
) -> "list[tuple[TopicPartition, int | None, int]]":
    from ottla.client import Admin, Consumer

    wanted = _of_file(target.each) if target.each is not None else parse_topics(topics)
    async with Admin(**settings) as admin:
        await _check_at_rest(admin, group_id)
        committed = {partition: one.offset for partition, one in (await admin.list_group_offsets(group_id)).items()}
        if wanted:
            partitions = await _partitions(admin, wanted)
        else:
            partitions = sorted(committed)
            if not partitions:
                raise ConfigError(f"{group_id} has committed nothing: name the topics with --topic")
        async with Consumer(**settings) as consumer:
            found = await _targets(consumer, partitions, committed, target)
        if execute:
            await admin.alter_group_offsets(group_id, found)
    return [(one, committed.get(one), found[one]) for one in partitions]


async def _check_at_rest(admin: "Admin", group_id: str) -> None:
    from ottla.client import ClientError, ErrorCode

    try:
        described = await admin.describe_group(group_id)
    except ClientError as error:
        if error.code is ErrorCode.GROUP_ID_NOT_FOUND:
            return  # it will be made
        raise
    if described.state not in _AT_REST:
        who = sorted({one.client_id for one in described.members})
        raise ClientError(
            ErrorCode.NON_EMPTY_GROUP,
            f"{group_id} is {described.state} with {len(described.members)} member(s) ({', '.join(who)}): "
            "stop its consumers first, they would commit over it",
        )


async def _partitions(admin: "Admin", wanted: dict[str, set[int] | None]) -> "list[TopicPartition]":
    from ottla.client import TopicPartition

    partitions: list[TopicPartition] = []
    for topic in await admin.describe_topics(wanted):
        there = {part.partition for part in topic.partitions}
        only = wanted[topic.name]
        if only is not None and only - there:
            raise ConfigError(f"--topic {topic.name}:{min(only - there)}: it has the partitions 0 to {len(there) - 1}")
        partitions += [TopicPartition(topic.name, index) for index in (there if only is None else only)]
    return sorted(partitions)


async def _targets(
    consumer: "Reader", partitions: "list[TopicPartition]", committed: "Offsets", target: Target
) -> "dict[TopicPartition, int]":
    """Where each partition is to be read on: within what the log holds."""
    starts = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    if target.place in ("earliest", "latest"):
        return starts if target.place == "earliest" else ends
    if target.time_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, target.time_ms)))
        return {one: ends[one] if (at := found[one]) is None else at.offset for one in partitions}
    goals: dict[TopicPartition, int] = {}
    for one in partitions:
        if target.offset is not None:
            goals[one] = target.offset
        elif target.each is not None:
            goals[one] = target.each[one.topic, one.partition]
        elif target.place == "current":
            goals[one] = committed.get(one, ends[one])
        elif one in committed:
            goals[one] = committed[one] + (target.shift or 0)
        else:
            raise ConfigError(f"--shift-by: the group has committed nothing of {one.topic}-{one.partition}")
    return {one: min(max(goal, starts[one]), ends[one]) for one, goal in goals.items()}
