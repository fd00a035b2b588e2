"""Durations on the command line: read, and told."""

import re
from datetime import timedelta

from ottla.core.errors import ConfigError

_DURATION = re.compile(
    r"(?:P(?:(?P<D>\d+)D)?T?(?:(?P<H>\d+)H)?(?:(?P<M>\d+)M)?(?:(?P<S>\d+(?:\.\d+)?)S)?"
    r"|(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?)"
)


def parse_duration_s(text: str, option: str) -> float:
    """Seconds of `90m`, `1d12h` or ISO 8601's `PT90M`; raises ConfigError."""
    match = _DURATION.fullmatch(text)
    found = {name.lower(): float(value) for name, value in match.groupdict().items() if value} if match else {}
    if not found:
        raise ConfigError(f"{option} {text}: write e.g. 30s, 90m, 2h, 1d12h or PT90M")
    return timedelta(
        days=found.get("d", 0), hours=found.get("h", 0), minutes=found.get("m", 0), seconds=found.get("s", 0)
    ).total_seconds()


def parse_period_s(text: str, option: str) -> float:
    """As `parse_duration_s`, for something that takes time; raises ConfigError when it is none."""
    seconds = parse_duration_s(text, option)
    if not seconds:
        raise ConfigError(f"{option} {text}: there is nothing to see in no time; write e.g. 30s, 90m or 2h")
    return seconds


def spoken(seconds: float) -> str:
    """A duration as people say it: its two largest units."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    return "".join(parts)
