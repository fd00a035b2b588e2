"""The live table of `ottla up` fits the terminal."""

from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from ottla.cli.up_views import live_table


def node(number: int) -> Mapping[str, Any]:
    standing = {"role": "leader", "led": 1234, "under_replicated": 1000, "lag_records": 123_456, "fenced": False}
    return {
        "id": number, "state": "running", "pid": 1234567, "uptime_s": 40_000.0, "standing": standing, "end": None,
        "received_bytes": 0, "sent_bytes": 0, "replication_received_bytes": 0, "replication_sent_bytes": 0,
        "kafka": "localhost:9092", "grpc": "localhost:10092",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "left_out"), [(200, set()), (100, {"repl. out/s"}), (80, {"pid"}), (60, {"up", "out/s"})]
)
def test_columns_are_left_out_before_any_is_folded(columns: int, left_out: set[str]) -> None:
    console = Console(width=columns, color_system=None)
    with console.capture() as drawn:
        console.print(live_table([node(1), node(2)], {}, console))
    lines = drawn.get().splitlines()
    assert len(lines) == 4  # names, a rule, two nodes
    for name in ("node", "state", "role", "under-repl.", "lag"):
        assert name in lines[0]
    for name in left_out:
        assert f" {name} " not in f" {lines[0]} "
    if columns == 200:
        assert lines[0].split()[-1] == "out/s"
