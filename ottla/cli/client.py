"""What the commands that speak to a cluster have in common: the address, the time-out, running a coroutine."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ottla.core.errors import ConfigError
from ottla.node.local.asking import CommandFailed, NotRunning, ask
from ottla.node.local.control import DEFAULT_DIRECTORY

if TYPE_CHECKING:
    from ottla.client.settings import ConnectionSettings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DEFAULT_SERVER = "localhost:10092"
_LOCAL_S = 2.0
# The first variable is a node's setting too, with the same meaning; a node's own certificate is not a client's.
_TLS_OPTIONS = {
    "tls-ca": ("OTTLA_TLS_CA", "Speak TLS; the certificates (PEM) of the authority that signs for the nodes"),
    "tls-certificate": ("OTTLA_TLS_CLIENT_CERTIFICATE", "This client's certificate, for nodes that ask for one"),
    "tls-key": ("OTTLA_TLS_CLIENT_KEY", "Its private key"),
}


def server_options(command: F) -> F:
    """`--server`, `--tls-…` and `--timeout`, with the same words everywhere."""
    server = click.option(
        "--server",
        "-s",
        envvar="OTTLA_SERVER",
        show_default=f"the cluster that runs in {DEFAULT_DIRECTORY}, or {DEFAULT_SERVER}",
        metavar="HOST:PORT,...",
        callback=_or_local,
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
    return server(tls_options(timeout(command)))


def tls_options(command: F) -> F:
    """`--tls-…`, which `connection` finds by itself."""
    for name, (variable, words) in reversed(_TLS_OPTIONS.items()):
        command = click.option(
            f"--{name}",
            envvar=variable,
            metavar="FILE",
            expose_value=False,
            callback=_remember,
            help=f"{words}; also in the environment as {variable}.",
        )(command)
    return command


def _or_local(context: click.Context, _: click.Parameter, server: str | None) -> str:
    """What is named; else all nodes of the cluster that runs in the default directory, since any one may be down."""
    if server is not None or context.resilient_parsing:
        return server or DEFAULT_SERVER
    try:
        found = ask(DEFAULT_DIRECTORY, "addresses", timeout_s=_LOCAL_S)
    except (NotRunning, CommandFailed, PermissionError):
        return DEFAULT_SERVER  # nothing of ours is there: a node that was started in another way may listen
    context.meta[f"{__name__}.local_tls_ca"] = found["tls_ca"]
    return str(found["grpc"]) or DEFAULT_SERVER


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """For `connection`, so that the commands need not pass them on."""
    context.meta[f"{__name__}.{parameter.name}"] = value


def connection(server: str, timeout: float) -> "ConnectionSettings":
    """The settings of a client for these options."""
    timeout_ms = max(1, int(timeout * 1000))
    meta = click.get_current_context().meta
    return {
        "ssl_cafile": meta.get(f"{__name__}.tls_ca") or meta.get(f"{__name__}.local_tls_ca"),
        "ssl_certfile": meta.get(f"{__name__}.tls_certificate"),
        "ssl_keyfile": meta.get(f"{__name__}.tls_key"),
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
