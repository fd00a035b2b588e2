"""A node of the local cluster as the row of a table: for `ottla status` and the live table of `ottla up`."""

from collections.abc import Mapping
from typing import Any, Final

COLUMNS: Final = (
    "node",
    "state",
    "pid",
    "up",
    "role",
    "led",
    "under-repl.",
    "lag",
    "in/s",
    "out/s",
    "repl. in/s",
    "repl. out/s",
    "kafka",
    "grpc",
)
_ROLES: Final = {"leader": "controller", "voter": "voter", "learner": "learner", "observer": "observer"}
_TRAFFIC: Final = ("received_bytes", "sent_bytes", "replication_received_bytes", "replication_sent_bytes")


def row(node: Mapping[str, Any], per_second: Mapping[str, float | None]) -> tuple[object, ...]:
    """The cells of one node; what it cannot tell now is `None`."""
    standing = node["standing"]
    return (
        node["id"],
        _state(node),
        node["pid"],
        _duration(node["uptime_s"]),
        _ROLES[standing["role"]] if standing else None,
        standing["led"] if standing else None,
        standing["under_replicated"] if standing else None,
        standing["lag_records"] if standing else None,
        *(_bytes(per_second.get(name)) for name in _TRAFFIC),
        node["kafka"] or None,
        node["grpc"] or None,
    )


def _state(node: Mapping[str, Any]) -> str:
    if node["standing"] and node["standing"]["fenced"]:
        return "fenced"
    return f"{node['state']} ({node['end']})" if node["state"] == "ended" else str(node["state"])


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _bytes(count: float | None) -> str | None:
    if count is None:
        return None
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
