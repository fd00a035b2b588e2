"""A result in words, for a terminal."""

from ottla.testing.chaos.result import AVAILABLE, COLUMNS, RECOVERS, Result, Standing

_WORDS = {
    Standing.OK: "Nothing found.",
    Standing.SLOW: "No anomaly; writes stopped for longer than they should.",
    Standing.STUCK: "No anomaly; but not everything comes to rest.",
    Standing.ANOMALY: "ANOMALIES: what the clients saw must never be.",
}


_MOST = 5


def summary(result: Result) -> str:
    """Some lines."""
    lines = [
        "",
        _WORDS[result.standing],
        f"  {result.operations:,} operations, {result.acknowledged:,} records acknowledged, {result.seen:,} seen; "
        f"{len(result.windows)} faults, {result.replicas} logs of replicas; checked in {result.checked_s:.1f} s",
    ]
    if result.longest_gap_ms is not None:
        lines.append(f"  the longest time that a partition took no write: {result.longest_gap_ms:,.0f} ms")
    for kind in dict.fromkeys(gap.kind for gap in result.gaps):
        of_kind = [gap for gap in result.gaps if gap.kind == kind]
        lines.append(
            f"    {kind}: {len(of_kind)} times, longest {max(gap.gap_ms for gap in of_kind):,.0f} ms, after it was "
            f"healed {max(gap.after_heal_ms for gap in of_kind):,.0f} ms"
        )
    rest = (("replicas in sync", result.in_sync_s), ("groups at the end", result.groups_s))
    told = [f"{what} after {seconds:.1f} s" for what, seconds in rest if seconds is not None]
    if told:
        lines.append(f"  from the last heal on: {', '.join(told)}")
    lines += [f"  slow: {one}" for one in result.slow]
    lines += [f"  {RECOVERS}: no. {one}" for one in result.stuck]
    broken = [(name, result.broken(name)) for name in COLUMNS if result.broken(name)]
    lines += [f"  BROKEN: {name} ({count})" for name, count in broken if name not in (RECOVERS, AVAILABLE)]
    if result.renumbered:
        lines.append(f"  clients raised the epoch of a producer by themselves {len(result.renumbered)} times:")
        lines += [f"    {one}" for one in result.renumbered[:_MOST]]
    if result.clients_own:
        lines.append(f"  of the client's own making, and no anomaly of the cluster's: {len(result.clients_own)}")
    for excerpt in [*result.excerpts, *result.clients_own[:_MOST]]:
        lines += ["", excerpt]
    return "\n".join(lines)
