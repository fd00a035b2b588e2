"""`ottla produce`: records from lines or JSON lines to a topic, acknowledged before the command ends."""

import base64
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import click

from ottla.cli.client import connection, run, server_options
from ottla.cli.output import json_option, print_json
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client.settings import ProducerSettings

BATCH_BYTES = 1 << 20
BUFFER_BYTES = 64 << 20
LONG_FILE_BYTES = 8 << 20  # from here on a progress bar is worth its line
UNDER_WAY = 50_000  # deliveries that are not looked at yet


class Line(NamedTuple):
    """One record as it was read."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    partition: int | None
    timestamp_ms: int | None


@click.command()
@click.argument("topic")
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--format",
    "form",
    type=click.Choice(["lines", "json"]),
    default="lines",
    show_default=True,
    help="A value a line, or a JSON object a line as `ottla consume --format json` prints it.",
)
@click.option("--key-separator", "-K", metavar="TEXT", help="Split each line into key and value at its first TEXT.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME=VALUE", help="A header for every record.")
@click.option("--partition", "-p", type=click.IntRange(0), help="Default: by key, or spread.")
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
)
@click.option("--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True)
@click.option("--transactional-id", metavar="NAME", help="Write everything in one transaction: all of it or nothing.")
@server_options
@json_option
def produce(
    *,
    topic: str,
    file: IO[bytes],
    form: str,
    key_separator: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    compression: str,
    acks: str,
    transactional_id: str | None,
    server: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Write records from FILE, or from standard input, to TOPIC.

    The command ends when every record is acknowledged. An empty line is a record with an empty value. With
    --transactional-id readers of committed records see all of them at once, when the input has ended; a line that
    cannot be read, or Ctrl-C, and they see none.
    """
    if transactional_id is not None and acks != "all":
        raise ConfigError("--transactional-id needs --acks all")
    fixed = tuple(_header(text) for text in headers)
    if form == "json":
        if key_separator is not None:
            raise ConfigError("--key-separator splits lines; with --format json the key stands in the object")
        parse: Callable[[bytes], Line] = lambda line: _json_line(line, fixed, partition)  # noqa: E731
    else:
        separator = key_separator.encode() if key_separator is not None else None
        if separator == b"":
            raise ConfigError("--key-separator is empty: name the text between key and value")
        parse = lambda line: _plain_line(line, separator, fixed, partition)  # noqa: E731
    settings = cast(
        "ProducerSettings",
        {
            **connection(server, timeout),
            "acks": "all" if acks == "all" else 1 if acks == "1" else 0,
            "enable_idempotence": acks == "all",
            "compression_type": compression,
            "batch_size": BATCH_BYTES - 1024,
            "max_request_size": BATCH_BYTES,
            "buffer_memory": BUFFER_BYTES,
            "max_block_ms": max(1, int(timeout * 1000)),
            "delivery_timeout_ms": max(120_000, int(timeout * 2000)),
            "transactional_id": transactional_id,
        },
    )
    with ExitStack() as stack:
        sent = run(_send(settings, topic, _lines(file, stack), parse))
    if as_json:
        print_json({"topic": topic, "records": sent})
    elif sys.stderr.isatty():
        click.echo(f"{sent} record(s) acknowledged.", err=True)


async def _send(
    settings: "ProducerSettings", topic: str, lines: Iterator[bytes], parse: Callable[[bytes], Line]
) -> int:
    from ottla.client import Producer

    sent = 0
    under_way: deque[Any] = deque()
    async with Producer(**settings) as producer, AsyncExitStack() as stack:
        if settings.get("transactional_id") is not None:
            await stack.enter_async_context(producer.transaction())
        for number, line in enumerate(lines, 1):
            try:
                record = parse(line)
            except ValueError as error:
                raise ConfigError(f"line {number}: {error}") from None
            under_way.append(
                await producer.send(
                    topic,
                    record.value,
                    key=record.key,
                    headers=record.headers,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                )
            )
            sent = number
            if len(under_way) > UNDER_WAY:
                for _ in range(UNDER_WAY // 2):
                    await under_way.popleft()
        await producer.flush()
        for delivery in under_way:
            await delivery
    return sent


def _lines(file: IO[bytes], stack: ExitStack) -> Iterator[bytes]:
    """The lines without their ends; a progress bar on standard error for a long file."""
    size = _size(file)
    if size < LONG_FILE_BYTES or not sys.stderr.isatty():
        return (line.removesuffix(b"\n") for line in file)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    progress = stack.enter_context(
        Progress(
            BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
        )
    )
    return _counted(file, progress, progress.add_task("", total=size))


def _counted(file: IO[bytes], progress: Any, task: Any) -> Iterator[bytes]:
    unreported = 0
    for line in file:
        unreported += len(line)
        if unreported > 1 << 20:
            progress.advance(task, unreported)
            unreported = 0
        yield line.removesuffix(b"\n")
    progress.advance(task, unreported)


def _size(file: IO[bytes]) -> int:
    if not file.seekable():
        return 0
    position = file.tell()
    end = file.seek(0, 2)
    file.seek(position)
    return end - position


def _plain_line(
    line: bytes, separator: bytes | None, headers: tuple[tuple[str, bytes | None], ...], partition: int | None
) -> Line:
    if separator is None:
        return Line(None, line, headers, partition, None)
    key, found, value = line.partition(separator)
    if not found:
        raise ValueError(f"there is no {separator.decode()!r} between a key and a value: {line[:80]!r}")
    return Line(key, value, headers, partition, None)


def _json_line(line: bytes, headers: tuple[tuple[str, bytes | None], ...], partition: int | None) -> Line:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a line of a file, not a caller's mistake
    if "value" not in row:
        raise ValueError('there is no "value"; write null for a tombstone')
    return Line(
        _bytes(row.get("key")),
        _bytes(row["value"]),
        _row_headers(row.get("headers")) + headers,
        partition if partition is not None else _number(row, "partition"),
        _number(row, "timestamp"),
    )


def _row_headers(given: object) -> tuple[tuple[str, bytes | None], ...]:
    """The headers of a JSON line: pairs, as a name may occur more than once, or an object."""
    pairs = list(given.items()) if isinstance(given, dict) else given or []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise ValueError('headers: write [["name", "value"], …]')
    return tuple((name, _bytes(value)) for name, value in pairs)


def _number(row: dict[str, Any], name: str) -> int | None:
    value = row.get(name)
    if value is not None and type(value) is not int:  # true and false are no numbers here
        raise ValueError(f"{name}: {json.dumps(value)} is not a whole number")
    return value


def _bytes(value: object) -> bytes | None:
    """A JSON value as a record's bytes: texts as UTF-8, `{"base64": …}` as what it says, others as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"base64"}:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not base64: {error}") from None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _header(text: str) -> tuple[str, bytes | None]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--header {text}: write --header NAME=VALUE")
    return name, value.encode()
