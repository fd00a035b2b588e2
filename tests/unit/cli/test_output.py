"""Tables fit the terminal, and nothing of them is cut off."""

import sys

import pytest

from ottla.cli.output import print_table

NAME = "ee66a6e4-e4db-4f35-ba41-182c288220c8"
COLUMNS, ROWS = ("member", "partition", "lag"), [(NAME, 0, 12), (NAME, 1, None)]


def lines(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As a terminal of this width shows the table."""
    for name, value in {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(COLUMNS, ROWS)
    told = capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[0m", "")
    return [line.rstrip() for line in told.splitlines()]


def test_long_columns_are_folded_and_short_ones_are_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines(40, capsys, monkeypatch)[2:4] == [NAME[:24] + "  0          12", NAME[24:]]


def test_rows_are_told_one_by_one_where_no_table_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines(30, capsys, monkeypatch) == [
        f"member     {NAME}",
        "partition  0",
        "lag        12",
        "",
        f"member     {NAME}",
        "partition  1",
        "lag        -",
    ]


def test_into_a_pipe_nothing_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines()[2].rstrip() == f"{NAME}  0          12"
