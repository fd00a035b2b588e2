"""Which cluster a command about its nodes means: the one that `ottla up` runs in --dir, or the one that --server names.

Of the first the command does everything, through the supervisor; of the second what the cluster can be asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ottla.cli.client import connection, tls_options
from ottla.node.local.asking import NotRunning, ask
from ottla.node.local.control import DEFAULT_DIRECTORY

if TYPE_CHECKING:
    from ottla.client.settings import ConnectionSettings

F = TypeVar("F", bound=Callable[..., Any])

_STATUS_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`directory`: of a local cluster, else None. `alive`: those of its nodes whose processes run."""

    settings: "ConnectionSettings"
    timeout_s: float
    directory: Path | None = None
    members: tuple[int, ...] = ()
    alive: tuple[int, ...] = ()

    def tell(self, command: str, node: int) -> None:
        """Have the supervisor do it; return when it is true."""
        assert self.directory is not None
        ask(self.directory, command, nodes=[node], timeout_s=self.timeout_s)


def target_options(command: F) -> F:
    """`--dir`, or `--server` and `--tls-…`; `--timeout`."""
    directory = click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_DIRECTORY,
        show_default=True,
        help="The directory of a local cluster, as given to `ottla up`.",
    )
    server = click.option(
        "--server",
        "-s",
        envvar="OTTLA_SERVER",
        metavar="HOST:PORT,...",
        help="Of a cluster elsewhere: a node's gRPC address; also in the environment as OTTLA_SERVER.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default="60",
        metavar="SECONDS",
        help="How long each step may take; moving replicas takes as long as it takes.",
    )
    return directory(server(tls_options(timeout(command))))


def target(directory: Path, server: str | None, timeout_s: float) -> Target:
    """Raises NotRunning."""
    if server is not None:
        return Target(settings=connection(server, timeout_s), timeout_s=timeout_s)
    try:
        found = ask(directory, "status", timeout_s=_STATUS_S)
    except NotRunning as error:
        raise NotRunning(f"{error}; --server names a node of a cluster elsewhere") from None
    settings = connection(found["grpc"], timeout_s)
    if settings["ssl_cafile"] is None:
        settings["ssl_cafile"] = found["tls_ca"]
    return Target(
        settings=settings,
        timeout_s=timeout_s,
        directory=directory,
        members=tuple(found["members"]),
        alive=tuple(node["id"] for node in found["nodes"] if node["pid"] is not None),
    )
