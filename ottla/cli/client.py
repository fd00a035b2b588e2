"""What the commands that speak to a cluster have in common: the address, the time-out, running a coroutine."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client.settings import ConnectionSettings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DEFAULT_SERVER = "localhost:10092"


def server_options(command: F) -> F:
    """`--server` and `--timeout`, with the same words everywhere."""
    server = click.option(
        "--server",
        "-s",
        envvar="OTTLA_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        metavar="HOST:PORT,...",
        help="A node's gRPC address; also in the environment as OTTLA_SERVER.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=15.0,
        show_default="15",
        metavar="SECONDS",
        help="How long to wait for the cluster.",
    )
    return server(timeout(command))


def connection(server: str, timeout: float) -> "ConnectionSettings":
    """The settings of a client for these options."""
    timeout_ms = max(1, int(timeout * 1000))
    return {
        "bootstrap_servers": server,
        "client_id": "ottla-cli",
        "request_timeout_ms": timeout_ms,
        "api_timeout_ms": timeout_ms,
    }


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the command's coroutine to its end; what the client warns of is told like the command's errors."""
    logging.basicConfig(format="ottla: %(message)s", level=logging.WARNING)
    return asyncio.run(coroutine)


def assignments(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a dictionary; raises ConfigError."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {text}: write {option} KEY=VALUE")
        pairs[key] = value
    return pairs
