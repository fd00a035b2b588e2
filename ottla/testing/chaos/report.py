"""The report of runs: one self-contained HTML page with the matrix and a plot of each run, and a table for the docs."""

from collections.abc import Sequence
from html import escape
from typing import Final

from ottla.testing.chaos.plot import plot
from ottla.testing.chaos.result import COLUMNS, Result, Standing

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --line: #d5d8dc; --good: #1a7f37; --bad: #cf222e;
  --slow: #9a6700; --shade: #cf222e22; --rate: #0969da; --p50: #8250df; --max: #bf8700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #14171a; --line: #3a3f45; --good: #3fb950;
  --bad: #ff7b72; --slow: #d29922; --shade: #ff7b7233; --rate: #58a6ff; --p50: #bc8cff; --max: #e3b341; } }
body { font: 14px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 1200px; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { border: 1px solid var(--line); padding: .25rem .5rem; }
.wide { overflow-x: auto; } th.turned { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  font-weight: 500; } td.n { text-align: right; } .ok { color: var(--good); } .anomaly, .stuck { color: var(--bad);
  font-weight: 700; } .slow { color: var(--slow); } pre { white-space: pre-wrap; border: 1px solid var(--line);
  padding: .5rem; } svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 11px; }
section { border-top: 1px solid var(--line); margin-top: 1.5rem; } a { color: inherit; }
"""


def row_name(result: Result) -> str:
    """What stands at the left of its row."""
    return result.row or ", ".join(result.faults) or "no fault"


def page(results: Sequence[Result], title: str = "Chaos") -> str:
    """The whole page."""
    faults = sum(len(one.windows) for one in results)
    head = (
        f"{len(results)} runs of {min(one.seconds for one in results):.0f} s or more, {faults} faults, "
        f"{sum(one.operations for one in results):,} operations, "
        f"{sum(one.acknowledged for one in results):,} records acknowledged, "
        f"{sum(sum(one.anomalies.values()) for one in results)} anomalies"
        if results
        else "no runs"
    )
    commits = ", ".join(sorted({one.commit for one in results if one.commit}))
    body = [
        f"<h1>{escape(title)}</h1><p>{head}.{f' Commit {escape(commits)}.' if commits else ''}</p>",
        _matrix(results),
        _gaps(results),
        *(_run(number, one) for number, one in enumerate(results)),
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(body)}</html>\n'
    )


def _matrix(results: Sequence[Result]) -> str:
    """Faults down, guarantees across; in each cell one letter for each run."""
    heads = "".join(f'<th class="turned">{escape(column)}</th>' for column in COLUMNS)
    rows = []
    for name in dict.fromkeys(map(row_name, results)):
        of_row = [(number, one) for number, one in enumerate(results) if row_name(one) == name]
        cells = []
        for column in COLUMNS:
            marks = []
            for number, one in of_row:
                count = one.broken(column)
                mark, kind = ("✓", "ok") if not count else (f"✗{count}", "slow" if column == COLUMNS[-1] else "anomaly")
                tip = escape(f"{one.cluster}, {one.client}")
                marks.append(f'<a class="{kind}" href="#run-{number}" title="{tip}">{mark}</a>')
            cells.append(f"<td>{' '.join(marks)}</td>")
        count = sum(len(one.windows) for _, one in of_row)
        rows.append(f'<tr><th>{escape(name)}</th><td class="n">{count}</td>{"".join(cells)}</tr>')
    return (
        "<h2>Faults and guarantees</h2><p>A mark for each run: ✓ the guarantee held, ✗ it was broken so often.</p>"
        f'<div class="wide"><table><tr><th>fault</th><th class="turned">times done</th>{heads}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def _gaps(results: Sequence[Result]) -> str:
    rows = []
    for name in dict.fromkeys(map(row_name, results)):
        for cluster, client in dict.fromkeys((one.cluster, one.client) for one in results):
            found = [
                gap
                for one in results
                if row_name(one) == name and (one.cluster, one.client) == (cluster, client)
                for gap in one.gaps
            ]
            if found:
                lengths = sorted(gap.gap_ms for gap in found)
                after = max(gap.after_heal_ms for gap in found)
                rows.append(
                    f"<tr><th>{escape(name)}</th><td>{escape(cluster)}</td><td>{escape(client)}</td>"
                    f'<td class="n">{len(found)}</td><td class="n">{lengths[len(lengths) // 2]:,.0f}</td>'
                    f'<td class="n">{lengths[-1]:,.0f}</td><td class="n">{after:,.0f}</td></tr>'
                )
    return (
        "<h2>How long writes stopped</h2><p>The longest time without an acknowledgement in any partition, in ms, of "
        "each fault; and from its end on.</p><div class=wide><table><tr><th>fault</th><th>cluster</th><th>client</th>"
        "<th>times</th><th>median</th><th>longest</th><th>longest after it was healed</th></tr>"
        f"{''.join(rows)}</table></div>"
    )


def _run(number: int, result: Result) -> str:
    gap = "" if result.longest_gap_ms is None else f"; longest gap {result.longest_gap_ms:,.0f} ms"
    rest = "" if result.in_sync_s is None else f"; in sync {result.in_sync_s:.1f} s after the last heal"
    found = [*result.slow, *result.stuck, *(f"epoch raised by {one}" for one in result.renumbered)]
    told = "".join(f"<li>{escape(one)}</li>" for one in found)
    excerpts = "".join(f"<pre>{escape(one)}</pre>" for one in [*result.excerpts, *result.clients_own])
    return (
        f'<section id="run-{number}"><h3>{escape(row_name(result))} · {escape(result.cluster)} · '
        f'{escape(result.client)} <span class="{result.standing}">{result.standing}</span></h3>'
        f"<p>seed {result.seed}; {len(result.windows)} faults; {result.operations:,} operations; "
        f"{result.acknowledged:,} acknowledged; {result.replicas} logs of replicas read{gap}{rest}.</p>"
        f"{plot(result)}{f'<ul>{told}</ul>' if told else ''}{excerpts}</section>"
    )


def markdown(results: Sequence[Result]) -> str:
    """Faults down; runs, faults, broken guarantees, and gaps in ms by client."""
    clients = list(dict.fromkeys(one.client for one in results))
    head = [
        "fault",
        "runs",
        "faults",
        "anomalies",
        "clients' own",
        "stuck",
        *(f"gap p50 / max, {client}" for client in clients),
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in dict.fromkeys(map(row_name, results)):
        of_row = [one for one in results if row_name(one) == name]
        cells = [
            name,
            str(len(of_row)),
            str(sum(len(one.windows) for one in of_row)),
            str(sum(sum(one.anomalies.values()) for one in of_row)),
            str(sum(len(one.clients_own) for one in of_row)),
            str(sum(one.standing is Standing.STUCK for one in of_row)),
        ]
        for client in clients:
            lengths = sorted(gap.gap_ms for one in of_row if one.client == client for gap in one.gaps)
            cells.append(f"{lengths[len(lengths) // 2]:,.0f} / {lengths[-1]:,.0f}" if lengths else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
