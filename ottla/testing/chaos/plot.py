"""One run as a drawing: throughput and latency over time, with the faults' windows shaded. Inline SVG."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import log10
from typing import Final

from ottla.testing.chaos.result import Result

_WIDTH, _HEIGHT = 1000, 260
_LEFT, _RIGHT, _TOP, _MIDDLE, _BOTTOM = 48, 990, 14, 120, 240
_LATENCIES_MS: Final = (1, 10, 100, 1_000, 10_000)


def plot(result: Result) -> str:
    """Above the throughput, below the latency on a logarithmic scale."""
    if not result.series:
        return "<p>No workload that writes all along.</p>"
    seconds = max(result.seconds, 1.0)
    most = max(one.rate for one in result.series) or 1.0

    def x(at_s: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(max(at_s, 0.0), seconds) / seconds

    def of_rate(rate: float) -> float:
        return _MIDDLE - (_MIDDLE - _TOP) * rate / most

    def of_latency(ms: float) -> float:
        share = log10(min(max(ms, 1.0), _LATENCIES_MS[-1])) / log10(_LATENCIES_MS[-1])
        return _BOTTOM - (_BOTTOM - _MIDDLE - 14) * share

    parts = [_shade(result, x), _axes(seconds, most, x, of_latency)]
    rate = [(x(one.at_s), of_rate(one.rate)) for one in result.series]
    parts.append(f'<polyline fill="none" stroke="var(--rate)" stroke-width="1.5" points="{_points(rate)}"/>')
    for colour, values in (
        ("--p50", [(one.at_s, one.p50_ms) for one in result.series]),
        ("--max", [(one.at_s, one.max_ms) for one in result.series]),
    ):
        for piece in _pieces(values):
            points = _points((x(at_s), of_latency(ms)) for at_s, ms in piece)
            parts.append(f'<polyline fill="none" stroke="var({colour})" stroke-width="1.2" points="{points}"/>')
    parts.append(
        f'<text x="{_LEFT + 6}" y="{_TOP + 4}" style="fill:var(--rate)">acknowledged records/s</text>'
        f'<text x="{_LEFT + 6}" y="{_MIDDLE + 18}"><tspan style="fill:var(--p50)">latency p50</tspan>, '
        f'<tspan style="fill:var(--max)">longest</tspan></text>'
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _shade(result: Result, x: Callable[[float], float]) -> str:
    parts = []
    for window, gap in zip(result.windows, result.gaps, strict=True):
        width = max(1.0, x(window.until_s) - x(window.since_s))
        tip = escape(
            f"{window.kind}, {window.detail}: {window.since_s:.1f} to {window.until_s:.1f} s; gap {gap.gap_ms:.0f} ms"
        )
        parts.append(
            f'<rect x="{x(window.since_s):.1f}" y="{_TOP}" width="{width:.1f}" height="{_BOTTOM - _TOP}" '
            f'fill="var(--shade)"><title>{tip}</title></rect>'
        )
    return "".join(parts)


def _axes(seconds: float, most: float, x: Callable[[float], float], of_latency: Callable[[float], float]) -> str:
    parts = [
        f'<path d="M{_LEFT} {_TOP}V{_MIDDLE}H{_RIGHT}M{_LEFT} {_MIDDLE + 8}V{_BOTTOM}H{_RIGHT}" '
        'stroke="var(--line)" fill="none"/>',
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{most:.0f}</text>',
        f'<text x="{_LEFT - 4}" y="{_MIDDLE}" text-anchor="end">0</text>',
    ]
    for ms in _LATENCIES_MS:
        name = f"{ms} ms" if ms < 1000 else f"{ms // 1000} s"
        parts += [f'<text x="{_LEFT - 4}" y="{of_latency(ms) + 4:.1f}" text-anchor="end">{name}</text>']
    step = 5 if seconds <= 90 else 30 if seconds <= 600 else 300
    for at_s in range(0, int(seconds) + 1, step):
        parts.append(f'<text x="{x(at_s):.1f}" y="{_BOTTOM + 14}" text-anchor="middle">{at_s} s</text>')
    return "".join(parts)


def _pieces(values: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Cut where nothing was acknowledged."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for at_s, value in values:
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((at_s, value))
    return [piece for piece in pieces if piece]


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
