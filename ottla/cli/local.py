"""What the commands for the local cluster have in common: its directory, and how long to wait."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ottla.node.local.control import DEFAULT_DIRECTORY

F = TypeVar("F", bound=Callable[..., Any])


def directory_option(command: F) -> F:
    """`--dir`, with the default of `ottla up`."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_DIRECTORY,
        show_default=True,
        help="The cluster's directory, as given to `ottla up`.",
    )(command)


def timeout_option(command: F) -> F:
    """`--timeout` of what the supervisor does."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default="30",
        metavar="SECONDS",
        help="How long to wait until it is done.",
    )(command)
