"""`ottla mirror status`: how far each partition's copy is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ottla.cli.client import run
from ottla.cli.durations import spoken
from ottla.cli.mirror import config_argument, read_config
from ottla.cli.output import examples, json_option, print_json, print_table

if TYPE_CHECKING:
    from ottla.mirror.config import FlowConfig, MirrorConfig
    from ottla.mirror.engine.reports import PartitionReport
    from ottla.mirror.operations.status import PartitionStatus


@click.command(
    epilog=examples("ottla mirror status mirror.toml", "ottla mirror status mirror.toml --flow 'a->b' --json")
)
@config_argument
@click.option("--flow", "flows", multiple=True, metavar="A->B", help="Only this flow; may be repeated.")
@click.option("--all", "show_all", is_flag=True, help="Also partitions that are copied up to their end.")
@json_option
def status(*, file: Path, flows: tuple[str, ...], show_all: bool, as_json: bool) -> None:
    """Show each partition's lag in records and seconds, its last error and its throughput.

    It reads the clusters, so it may be asked from anywhere. Seconds are the age of the oldest record that is not
    copied. Without --all the table shows partitions that are behind or in trouble, and one line for each flow.
    """
    config, chosen = read_config(file, flows)
    found = run(_measure(config, chosen))
    if as_json:
        print_json([_json(flow, rows, missing, error) for flow, rows, missing, error in found])
        return
    lines: list[tuple[object, ...]] = []
    for flow, rows, missing, error in found:
        behind = sum(one.behind or 0 for one in rows)
        oldest = max((one.behind_s or 0.0 for one in rows), default=0.0)
        reports = [one.report for one in rows if one.report is not None]
        lines.append(
            (
                flow.name,
                f"{len(rows)} partitions",
                "source unreachable" if error else "",
                None if error else behind,
                None if error else spoken(oldest),
                f"{sum(one.records_per_s for one in reports):,.0f}/s",
                error or "",
            )
        )
        lines += [("", topic, "missing", None, None, "", f"{flow.source} has no such topic yet") for topic in missing]
        lines += [_line(one) for one in rows if show_all or one.behind or one.reason or _is_in_trouble(one)]
    print_table(("flow", "partition", "state", "behind", "for", "speed", "last error"), lines)


async def _measure(
    config: "MirrorConfig", flows: "list[FlowConfig]"
) -> "list[tuple[FlowConfig, list[PartitionStatus], list[str], str]]":
    from ottla.mirror.operations.observing import Observer
    from ottla.mirror.operations.status import status_of

    async with Observer(config, flows) as observer:
        return [
            (
                flow,
                await status_of(observer, flow, observer.books[flow.target].reports),
                [] if flow.source in observer.errors else flow.topics.unmatched(observer.sides[flow.source].topics),
                str(observer.errors.get(flow.source, "")),
            )
            for flow in flows
        ]


def _line(one: "PartitionStatus") -> tuple[object, ...]:
    report = one.report
    return (
        "",
        f"{one.source.topic}-{one.source.partition}",
        one.standing if one.reason else report.state if report else "not begun" if one.position is None else "",
        one.behind,
        None if one.behind_s is None else spoken(one.behind_s),
        f"{report.records_per_s:,.0f}/s" if report else "",
        one.reason or ("; ".join([*_losses(report), *([report.error] if report.error else [])]) if report else ""),
    )


def _is_in_trouble(one: "PartitionStatus") -> bool:
    return one.report is not None and bool(one.report.error or one.report.lost)


def _losses(report: "PartitionReport") -> list[str]:
    return [f"the source lost offsets {first} to {end - 1} before they were copied" for first, end in report.lost]


def _json(flow: "FlowConfig", rows: "list[PartitionStatus]", missing: list[str], error: str) -> dict[str, object]:
    return {
        "flow": flow.name,
        "source_error": error or None,
        "missing_topics": missing,
        "behind": None if error else sum(one.behind or 0 for one in rows),
        "behind_s": None if error else max((one.behind_s or 0.0 for one in rows), default=0.0),
        "partitions": [
            {
                "topic": one.source.topic,
                "partition": one.source.partition,
                "target_topic": one.target.topic,
                "position": one.position,
                "source_end": one.source_end,
                "behind": one.behind,
                "behind_s": one.behind_s,
                "state": one.report.state if one.report else None,
                "mirror": one.standing or None,
                "not_copied": one.reason or None,
                "last_error": (one.report.error or None) if one.report else None,
                "tries": one.report.tries if one.report else None,
                "records_per_s": one.report.records_per_s if one.report else None,
                "bytes_per_s": one.report.bytes_per_s if one.report else None,
                "lost": [list(lost) for lost in one.report.lost] if one.report else [],
                "process": one.report.process if one.report else None,
            }
            for one in rows
        ],
    }
