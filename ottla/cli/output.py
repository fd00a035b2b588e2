"""Tables for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])

FOLDED = 16  # characters; columns that are longer may be folded to this width


def json_option(command: F) -> F:
    """The `--json` flag, with the same words everywhere."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of a table.")(command)


def examples(*lines: str) -> str:
    """A command's examples, for the end of its help; one a line, as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def print_json(value: object) -> None:
    """One value, on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table as wide as the terminal; into a pipe, as wide as its content.

    What is too wide for the terminal even with its long cells folded becomes names and values, row by row.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else 10_000
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    least = [min(wide, max(len(name), FOLDED)) for name, wide in zip(columns, widths, strict=True)]
    if cells and sum(least) + 2 * (len(columns) - 1) > console.width:
        if title:
            click.echo(title)
        for index, row in enumerate(cells):
            if index:
                click.echo()
            print_pairs(dict(zip(columns, row, strict=True)))
        return
    made = table(columns, cells, title=title)
    for column, wide, narrow in zip(made.columns, widths, least, strict=True):
        column.min_width, column.no_wrap = narrow, wide == narrow
    console.print(made, end="", soft_wrap=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> "Table":
    """A table as rich draws it."""
    from rich import box
    from rich.table import Table

    made = Table(
        title=title or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        made.add_column(column, overflow="fold")  # what is cut off, nobody can copy
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()  # as in a configuration file
    return str(value)
