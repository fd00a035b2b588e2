"""`ottla log`: looks into log files on disk. Reads only, and needs no running node."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import click

from ottla.cli.exit_codes import Exit
from ottla.cli.output import json_option, print_json, print_table

_PATHS = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="PATH..."
)


@click.group()
def log() -> None:
    """Dump and verify log files on disk."""


@log.command()
@_PATHS
@click.option("--records", "with_records", is_flag=True, help="Show every record, not only the batches.")
@json_option
def dump(*, paths: tuple[Path, ...], with_records: bool, as_json: bool) -> None:
    """Show what is in segments (.log) and indexes; a directory stands for all its segments.

    Keys and values that are not text are shown in hex. With --json, one object a line.
    """
    from ottla.cli.log_files import INDEX_SUFFIX, TIME_INDEX_SUFFIX, segments

    for path in segments(paths):
        if not as_json:
            click.echo(f"{path}")
        if path.suffix == INDEX_SUFFIX:
            _dump_index(path, as_json=as_json)
        elif path.suffix == TIME_INDEX_SUFFIX:
            _dump_time_index(path, as_json=as_json)
        else:
            _dump_segment(path, with_records=with_records, as_json=as_json)


@log.command()
@_PATHS
@json_option
def verify(*, paths: tuple[Path, ...], as_json: bool) -> int:
    """Check lengths, CRCs and offsets of all batches, and the indexes against them.

    Exit code 6 when something is damaged. A batch cut off at the end of a partition is what a crash or a running node
    leaves behind, and no damage.
    """
    from ottla.cli.log_files import segments
    from ottla.cli.log_files import verify as verify_segment

    found = [path for path in segments(paths) if path.suffix == ".log"]
    verdicts = []
    for _, group in groupby(found, key=lambda path: path.parent):
        files = list(group)
        verdicts += [verify_segment(path, is_last=path is files[-1]) for path in files]
    if as_json:
        for verdict in verdicts:
            print_json({**asdict(verdict), "path": str(verdict.path)})
    else:
        rows = [(v.path, v.batches, v.records, v.valid_bytes, "; ".join(v.damage) or v.note or "ok") for v in verdicts]
        print_table(("segment", "batches", "records", "bytes", "verdict"), rows)
    if not found:
        click.echo(f"There is no segment in {', '.join(map(str, paths))}.", err=True)
    return Exit.DAMAGED if any(verdict.damage for verdict in verdicts) else Exit.DONE


def _dump_segment(path: Path, *, with_records: bool, as_json: bool) -> None:
    from ottla.cli.log_files import batches, mapped, records_of

    with mapped(path) as data:
        for position, header in batches(data):
            row = {
                "base_offset": header.base_offset,
                "last_offset": header.last_offset,
                "records": header.record_count,
                "position": position,
                "bytes": header.size_bytes,
                "leader_epoch": header.partition_leader_epoch,
                "max_timestamp": header.max_timestamp,
                "compression": header.compression.name.lower(),
                "producer_id": header.producer_id,
                "producer_epoch": header.producer_epoch,
                "base_sequence": header.base_sequence,
                "is_transactional": header.is_transactional,
                "is_control": header.is_control,
                "crc": header.crc,
            }
            _line(row, "", as_json=as_json)
            if with_records:
                for record in records_of(data, position):
                    shown = {
                        "offset": record.offset,
                        "timestamp": record.timestamp,
                        "key": _text(record.key),
                        "value": _text(record.value),
                        "headers": [[name, _text(value)] for name, value in record.headers],
                    }
                    _line(shown, "  | ", as_json=as_json)


def _dump_index(path: Path, *, as_json: bool) -> None:
    from ottla.cli.log_files import offset_entries

    base = int(path.stem)
    for offset, position in offset_entries(path):
        _line({"offset": base + offset, "position": position}, "", as_json=as_json)


def _dump_time_index(path: Path, *, as_json: bool) -> None:
    from ottla.cli.log_files import time_entries

    base = int(path.stem)
    for timestamp, offset in time_entries(path):
        _line({"timestamp": timestamp, "offset": base + offset}, "", as_json=as_json)


def _line(row: Mapping[str, object], indent: str, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        click.echo(indent + " ".join(f"{name}={value}" for name, value in row.items()))


def _text(data: bytes | memoryview | None) -> str | None:
    if data is None:
        return None
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        return f"0x{bytes(data).hex()}"
