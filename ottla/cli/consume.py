"""`ottla consume`: a topic's records to standard output, as bytes, JSON lines or hex."""

import asyncio
import base64
import json
import select
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.moments import moment_ms
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client import Consumer, ConsumerRecord, TopicPartition
    from ottla.client.settings import ConsumerSettings

    Record = ConsumerRecord[bytes | None, bytes | None]
    Reader = Consumer[bytes | None, bytes | None]

POLL_MS = 500
POLL_RECORDS = 10_000
FETCH_BYTES = 2 << 20
AHEAD_BYTES = 64 << 20
NEW_TOPIC_S = 1.0  # after its creation all nodes know a topic

Render = Callable[["Iterable[Record]"], bytes]


@click.command()
@click.argument("topic")
@click.option(
    "--from",
    "start",
    default="beginning",
    show_default=True,
    metavar="WHERE",
    help="beginning, end, an offset, -N for the last N records, or a time: 2026-01-31T12:00:00Z, @MILLISECONDS.",
)
@click.option("--partition", "-p", "only", type=click.IntRange(0), multiple=True, help="Only this partition.")
@click.option("--count", "-c", type=click.IntRange(1), help="End after this many records.")
@click.option("--exit", "-e", "exit_at_end", is_flag=True, help="End where the topic ends when the command starts.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["raw", "json", "hex"]),
    default="raw",
    show_default=True,
    help="The value and a newline; one JSON object a line; or key and value in hex.",
)
@click.option("--key-separator", "-K", metavar="TEXT", help="With raw: print key and TEXT before each value.")
@click.option("--group", "group_id", metavar="NAME", help="Read as a member of this group, and commit what is printed.")
@click.option("--read-committed", is_flag=True, help="Leave out records of open and aborted transactions.")
@click.option(
    "--isolation-level",
    "isolation_level",
    type=click.Choice(["read_uncommitted", "read_committed"]),
    default="read_uncommitted",
    help="The same in Kafka's words.",
)
@server_options
def consume(
    *,
    topic: str,
    start: str,
    only: tuple[int, ...],
    count: int | None,
    exit_at_end: bool,
    form: str,
    key_separator: str | None,
    group_id: str | None,
    read_committed: bool,
    isolation_level: str,
    server: str,
    timeout: float,
) -> None:
    """Print the records of TOPIC.

    With --group the command is one of the group's consumers: it goes on where the group has committed (and where
    nothing is, at --from), shares the partitions with others, and commits what it has printed.
    """
    settings = cast(
        "ConsumerSettings",
        {
            **connection(server, timeout),
            "auto_offset_reset": "none",
            "isolation_level": "read_committed" if read_committed else isolation_level,
            "max_poll_records": POLL_RECORDS,
            "fetch_max_bytes": 2 * FETCH_BYTES,
            "max_partition_fetch_bytes": FETCH_BYTES,
            "prefetch_max_bytes": AHEAD_BYTES,
        },
    )
    if form != "raw" and key_separator is not None:
        raise ConfigError(f"--key-separator is for --format raw; {form} shows the key anyway")
    where = parse_start(start)
    if group_id is not None:
        if where.place == "" or only:
            raise ConfigError(
                "with --group the group decides: --partition and other places than beginning, end do not go"
            )
        settings["auto_offset_reset"] = "earliest" if where.place == "beginning" else "latest"
        render = _renderer(form, key_separator)
        run(_consume_in_group(settings, topic, group_id, count, render, exit_at_end=exit_at_end))
        return
    run(_consume(settings, topic, where, only, count, _renderer(form, key_separator), exit_at_end=exit_at_end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where reading begins; one of the fields is set."""

    place: str = ""
    offset: int | None = None
    last: int | None = None
    time_ms: int | None = None


def parse_start(text: str) -> Start:
    """`--from`; raises ConfigError."""
    if text in ("beginning", "end"):
        return Start(place=text)
    if text.isdecimal():
        return Start(offset=int(text))
    if text.startswith("-") and text[1:].isdecimal():
        return Start(last=int(text[1:]))
    if text.startswith("@") and text[1:].isdecimal():
        return Start(time_ms=int(text[1:]))
    try:
        return Start(time_ms=moment_ms(text))
    except ValueError:
        raise ConfigError(
            f"--from {text}: write beginning, end, an offset, -N for the last N records, "
            "or a time such as 2026-01-31T12:00:00Z or @1700000000000"
        ) from None


async def _consume(
    settings: "ConsumerSettings",
    topic: str,
    where: Start,
    only: tuple[int, ...],
    count: int | None,
    render: Render,
    *,
    exit_at_end: bool,
) -> None:
    from ottla.client import Consumer, TopicPartition

    write, flush = sys.stdout.buffer.write, sys.stdout.buffer.flush
    left = count if count is not None else sys.maxsize
    async with Consumer(**settings) as consumer:
        if exit_at_end:
            await _check_there(consumer, topic)
        there = await consumer.partitions_for_topic(topic)
        if missing := sorted(set(only) - there):
            raise ConfigError(f"--partition {missing[0]}: {topic} has the partitions 0 to {len(there) - 1}")
        partitions = [TopicPartition(topic, number) for number in sorted(set(only) or there)]
        ends = await consumer.end_offsets(partitions) if exit_at_end else {}
        consumer.assign(partitions)
        await _seek(consumer, partitions, where)
        while left > 0 and not (exit_at_end and await _is_at_end(consumer, ends)):
            found = await consumer.poll(POLL_MS, min(left, POLL_RECORDS))
            for partition, records in found.items():
                shown = _before(records, ends[partition]) if exit_at_end else records
                write(render(shown))
                left -= len(shown)
            if found:
                flush()
            elif _reader_is_gone():
                raise BrokenPipeError


async def _check_there(consumer: "Reader", topic: str) -> None:
    """Who reads to the end of what there is waits for no topic to come. Raises ClientError."""
    from ottla.client import ClientError, ErrorCode

    deadline_s = time.monotonic() + NEW_TOPIC_S
    while not topic.startswith("__") and topic not in await consumer.topics():  # internal ones are not listed
        if time.monotonic() >= deadline_s:
            raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic", topic=topic)
        await asyncio.sleep(NEW_TOPIC_S / 4)


async def _consume_in_group(
    settings: "ConsumerSettings", topic: str, group_id: str, count: int | None, render: Render, *, exit_at_end: bool
) -> None:
    from ottla.client import Consumer, TopicPartition

    write, flush = sys.stdout.buffer.write, sys.stdout.buffer.flush
    left = count if count is not None else sys.maxsize
    async with Consumer(topic, group_id=group_id, **settings) as consumer:
        if exit_at_end:
            await _check_there(consumer, topic)
        there = [TopicPartition(topic, number) for number in await consumer.partitions_for_topic(topic)]
        ends = await consumer.end_offsets(there) if exit_at_end else {}
        while left > 0:
            found = await consumer.poll(POLL_MS, min(left, POLL_RECORDS))
            for records in found.values():
                write(render(records))
                left -= len(records)
            if found:
                flush()
            elif exit_at_end and await _has_reached(consumer, ends):
                break
            elif _reader_is_gone():
                raise BrokenPipeError


async def _has_reached(consumer: "Reader", ends: "dict[TopicPartition, int]") -> bool:
    """Whether this member has partitions, and has read all of them to the end."""
    mine = consumer.assignment()
    return bool(mine) and all([await consumer.position(one) >= ends.get(one, 0) for one in mine])


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe without a reader: `… | head` would otherwise end with the next record only."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


async def _seek(consumer: "Reader", partitions: "list[TopicPartition]", where: Start) -> None:
    if where.place == "beginning":
        consumer.seek_to_beginning()
    elif where.place == "end":
        consumer.seek_to_end()
    elif where.offset is not None:
        for partition in partitions:
            consumer.seek(partition, where.offset)
    elif where.last is not None:
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(first[partition], end[partition] - where.last))
    elif where.time_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, where.time_ms))
        end = await consumer.end_offsets(partitions)
        for partition in partitions:
            at = found[partition]
            consumer.seek(partition, end[partition] if at is None else at.offset)


async def _is_at_end(consumer: "Reader", ends: "dict[TopicPartition, int]") -> bool:
    """Whether reading has reached the ends; those that have are read no further."""
    reached = [partition for partition, end in ends.items() if await consumer.position(partition) >= end]
    for partition in reached:
        del ends[partition]
        consumer.pause(partition)
    return not ends


def _before(records: "list[Record]", end: int) -> "list[Record]":
    if records[-1].offset < end:
        return records
    return [record for record in records if record.offset < end]


def _renderer(form: str, key_separator: str | None) -> Render:
    if form == "json":
        return lambda records: b"".join(json.dumps(_row(one), ensure_ascii=False).encode() + b"\n" for one in records)
    if form == "hex":
        return lambda records: b"".join(_hex(one.key) + b" " + _hex(one.value) + b"\n" for one in records)
    if key_separator is None:
        return lambda records: b"\n".join([*[one.value or b"" for one in records], b""])
    separator = key_separator.encode()
    return lambda records: b"".join((one.key or b"") + separator + (one.value or b"") + b"\n" for one in records)


def _hex(data: bytes | None) -> bytes:
    return b"-" if data is None else data.hex().encode()


def _row(record: "Record") -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _json(record.key),
        "value": _json(record.value),
        "headers": [[name, _json(value)] for name, value in record.headers],
    }


def _json(data: bytes | None) -> str | dict[str, str] | None:
    """Text as text, other bytes in an object that `ottla produce --format json` understands."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
