"""The one group that a command is about."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def group_argument(command: F) -> F:
    """GROUP, as `name`; an empty one is refused here, since a broker says no more of it than INVALID_GROUP_ID."""
    return click.argument("name", metavar="GROUP", callback=_named)(command)


def _named(_: click.Context, __: click.Parameter, name: str) -> str:
    if not name:
        raise click.BadParameter("it is empty; `ottla group list` shows which groups there are")
    return name
