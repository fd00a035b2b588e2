"""`ottla mirror status`: how far each partition's copy is."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from ottla.cli.client import run
from ottla.cli.durations import spoken
from ottla.cli.mirror import config_argument, read_config
from ottla.cli.output import examples, json_option, print_json, print_table

if TYPE_CHECKING:
    from ottla.mirror.config import FlowConfig, MirrorConfig
    from ottla.mirror.engine.reports import PartitionReport
    from ottla.mirror.operations.status import PartitionStatus

_OF_ALL: Final = ("share", "groups")  # kinds of `engine.troubles` that concern the flow as a whole
_RETURNING: Final = "returning"  # `mirror.core.exact.Standing`, which is not loaded before it is needed


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
    copied. Without --all the table shows partitions that are behind, in trouble or copied by nobody, and one line for
    each flow. Of exact flows in both directions, *returning* partitions are those that the other one copies.
    """
    config, chosen = read_config(file, flows)
    found = run(measure(config, chosen))
    if as_json:
        print_json([_json(one) for one in found])
    else:
        show(found, show_all=show_all)


def show(found: "Sequence[Measured]", *, show_all: bool) -> None:
    """As a table: a line for each flow, and for what is to be told of its topics and partitions."""
    lines: list[tuple[object, ...]] = []
    for measured in found:
        lines.append(_flow_line(measured))
        lines += [("", topic, "missing", None, None, "", reason) for topic, reason in measured.missing.items()]
        lines += [
            ("", name, kind, None, None, "", reason)
            for kind, found in measured.troubles.items()
            if kind not in _OF_ALL
            for name, reason in found.items()
        ]
        lines += [_line(one) for one in measured.rows if show_all or one.behind or _is_to_be_told(one)]
    print_table(("flow", "partition", "state", "behind", "for", "speed", "last error"), lines)


class Measured(NamedTuple):
    """One flow; its partitions are not known when the target cannot be asked."""

    flow: "FlowConfig"
    rows: "Sequence[PartitionStatus]" = ()
    missing: Mapping[str, str] = MappingProxyType({})  # topics of the file that the source does not show, and why
    troubles: Mapping[str, Mapping[str, str]] = MappingProxyType({})  # what its processes tell besides
    source_error: str = ""
    target_error: str = ""

    @property
    def error(self) -> str:
        """Why nothing can be said of how far it is; empty: it can."""
        return self.target_error or self.source_error


async def measure(config: "MirrorConfig", flows: "list[FlowConfig]") -> list[Measured]:
    """The flows one by one when they cannot be asked together: one without its target hides no other."""
    from ottla.client.errors import ClientError

    try:
        return await _measured(config, flows)
    except ClientError:
        if len(flows) == 1:
            raise
    apart = await asyncio.gather(*(_measured(config, [flow]) for flow in flows), return_exceptions=True)
    failed = [one for one in apart if isinstance(one, BaseException)]
    unexpected = [one for one in failed if not isinstance(one, ClientError)]
    if unexpected or len(failed) == len(flows):
        raise (unexpected or failed)[0]
    return [
        Measured(flow, target_error=str(one)) if isinstance(one, BaseException) else one[0]
        for flow, one in zip(flows, apart, strict=True)
    ]


async def _measured(config: "MirrorConfig", flows: "list[FlowConfig]") -> "list[Measured]":
    from ottla.mirror.engine.topics import missing_topics
    from ottla.mirror.operations.observing import Observer
    from ottla.mirror.operations.status import status_of

    async with Observer(config, flows) as observer:
        return [
            Measured(
                flow,
                await status_of(observer, flow, observer.books[flow.target].reports),
                {} if flow.source in observer.errors else await missing_topics(flow, observer.sides[flow.source]),
                {
                    kind: found
                    for kind, found in observer.books[flow.target].reports.troubles_of(flow.name).items()
                    if kind != "missing"
                },
                str(observer.errors.get(flow.source, "")),
            )
            for flow in flows
        ]


def _flow_line(measured: Measured) -> tuple[object, ...]:
    rows, error = measured.rows, measured.error
    reports = [one.report for one in rows if one.report is not None]
    returning = sum(one.standing == _RETURNING for one in rows)
    state = f"{returning} returning" if returning else ""
    if error:
        state = "target unreachable" if measured.target_error else "source unreachable"
    told = "; ".join(reason for kind in _OF_ALL for reason in measured.troubles.get(kind, {}).values())
    return (
        measured.flow.name,
        None if measured.target_error else f"{len(rows)} partitions",
        state,
        None if error else sum(one.behind or 0 for one in rows),
        None if error else spoken(max((one.behind_s or 0.0 for one in rows), default=0.0)),
        f"{sum(one.records_per_s for one in reports):,.0f}/s" if not measured.target_error else "",
        error or told,
    )


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


def _is_to_be_told(one: "PartitionStatus") -> bool:
    """Whether it is in trouble, or nobody copies it; that the flow of the other direction does is as it should be."""
    in_trouble = one.report is not None and bool(one.report.error or one.report.lost)
    return in_trouble or bool(one.reason and one.standing != _RETURNING)


def _losses(report: "PartitionReport") -> list[str]:
    return [f"the source lost offsets {first} to {end - 1} before they were copied" for first, end in report.lost]


def _json(measured: Measured) -> dict[str, object]:
    rows, error = measured.rows, measured.error
    return {
        "flow": measured.flow.name,
        "source_error": measured.source_error or None,
        "target_error": measured.target_error or None,
        "missing_topics": list(measured.missing),
        "missing": dict(measured.missing),
        "troubles": {kind: dict(found) for kind, found in measured.troubles.items()},
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
