"""`ottla mirror`: topics of one cluster live on in another."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ottla.cli.main import LazyGroup
from ottla.cli.output import examples, json_option

if TYPE_CHECKING:
    from ottla.mirror.config import FlowConfig, MirrorConfig

F = TypeVar("F", bound=Callable[..., Any])

_COMMANDS: Final = {
    "run": ("ottla.cli.mirror:run_mirror", "Copy, until it is stopped; more processes share the work."),
    "status": ("ottla.cli.mirror_status:status", "Show how far each partition's copy is, and what is wrong."),
    "translate": ("ottla.cli.mirror_translate:translate", "Say where an offset of one side is on the other."),
    "verify": ("ottla.cli.mirror_verify:verify", "Compare originals and copies, record by record."),
    "promote": ("ottla.cli.mirror_promote:promote", "Let clients write exact copies; nobody copies there any more."),
    "reverse": ("ottla.cli.mirror_promote:reverse", "Let exact copies flow back to where they came from."),
    "failover": ("ottla.cli.mirror_failover:failover", "Move groups to the target; say what was lost."),
    "failback": ("ottla.cli.mirror_failover:failback", "Move groups back to the source."),
}

_EXAMPLE: Final = """\b
A configuration in TOML (an mm2.properties of MirrorMaker 2 is read as it is):
  [clusters.primary]
  bootstrap_servers = ["primary:9092"]
  [clusters.backup]
  bootstrap_servers = ["backup:9092"]
  [flows."primary->backup"]
  topics = ["orders", "payments.*"]
  sync_group_offsets_enabled = true

"""


@click.group(
    cls=LazyGroup,
    commands=_COMMANDS,
    epilog=_EXAMPLE
    + examples(
        "ottla mirror run mirror.toml",
        "ottla mirror status mirror.toml",
        "ottla mirror translate mirror.toml 'primary->backup' orders-0 1234",
        "ottla mirror failover mirror.toml 'primary->backup' --execute",
    ),
)
def mirror() -> None:
    """Copy topics from one cluster into another, exactly once, with exact offsets.

    Between two Ottla clusters a flow with exact = true keeps batches and offsets as they are, in topics that are
    read-only until they are promoted.

    Either cluster may be Ottla or Apache Kafka (as a target from 4.0 on). CONFIG names clusters by their Kafka ports
    (with protocol = "grpc", by their gRPC ports), and flows between them.
    """


def config_argument(command: F) -> F:
    """CONFIG, with the same words everywhere."""
    return click.argument("file", metavar="CONFIG", type=click.Path(dir_okay=False, path_type=Path))(command)


def read_config(file: Path, flows: tuple[str, ...]) -> "tuple[MirrorConfig, list[FlowConfig]]":
    """The configuration and its flows of these names, or all. Raises ConfigError."""
    from ottla.core.errors import ConfigError
    from ottla.mirror.config import load_config
    from ottla.mirror.operations.observing import chosen

    config = load_config(file)
    if not config.flows:
        raise ConfigError(f'{file}: no flow is enabled: write [flows."a->b"], or a->b.enabled = true in properties')
    return config, chosen(config, flows)


def run_fast(main: "Callable[[], Any]") -> Any:
    """A coroutine function on uvloop where there is one."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


@click.command("run", epilog=examples("ottla mirror run mirror.toml", "ottla mirror run mm2.properties --flow 'a->b'"))
@config_argument
@click.option("--flow", "flows", multiple=True, metavar="A->B", help="Only this flow; may be repeated.")
@click.option("--http", metavar="HOST:PORT", help="Serve metrics for Prometheus at /metrics there.")
@click.option("--verbose", is_flag=True, help="Log more.")
@json_option
def run_mirror(*, file: Path, flows: tuple[str, ...], http: str | None, verbose: bool, as_json: bool) -> None:
    """Copy the flows of CONFIG until Ctrl-C or SIGTERM.

    Start as many processes as you like, on any hosts: they share the work by partition, and one that dies is
    replaced by the others without loss or duplicate. In a terminal a table shows what happens; with --json a line
    each second.
    """
    from dataclasses import replace

    config, chosen = read_config(file, flows)
    config = replace(config, flows=tuple(chosen))
    if config.ignored:
        click.echo(f"Without effect here: {', '.join(config.ignored)}", err=True)
    from ottla.cli.mirror_run import run_until_stopped

    run_fast(lambda: run_until_stopped(config, http=http, verbose=verbose, as_json=as_json))


def stop_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and Ctrl-C, where the loop can."""
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
