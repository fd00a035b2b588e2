"""The command's entry: its subcommands, loaded when they are called, and the way errors are told.

An error that Ottla raises on purpose is one line that says what to do, and an exit code; everything else is a bug and
keeps its traceback. A reader that went away (`ottla consume … | head`) is not an error.
"""

import os
import sys
from importlib import import_module
from typing import Any, Final

import click

from ottla import __version__
from ottla.cli.exit_codes import Exit, exit_code
from ottla.core.compiled import build_name
from ottla.core.errors import OttlaError

_COMMANDS = {
    "up": ("ottla.cli.up:up", "Start a local cluster of one or several nodes."),
    "status": ("ottla.cli.status:status", "Show the nodes of the local cluster."),
    "down": ("ottla.cli.down:down", "Stop the local cluster."),
    "node": ("ottla.cli.node:node", "Stop, start and pause local nodes; run one from a configuration file."),
    "config": ("ottla.cli.config:config", "Print an example configuration, or the one in force."),
    "topic": ("ottla.cli.topic:topic", "Create, list, describe, alter and delete topics; move their replicas."),
    "produce": ("ottla.cli.produce:produce", "Write records from a file or standard input to a topic."),
    "consume": ("ottla.cli.consume:consume", "Read a topic's records."),
    "group": (
        "ottla.cli.group:group",
        "List, describe and delete consumer groups; show their lag, and move where they read on.",
    ),
    "mirror": (
        "ottla.cli.mirror:mirror",
        "Copy topics from one cluster into another, exactly once, with exact offsets.",
    ),
    "txn": ("ottla.cli.txn:txn", "List, describe and abort transactions; find those that nobody will end."),
    "explain": ("ottla.cli.explain:explain", "Say why things stand as they do, and what to do about it."),
    "elect-leaders": ("ottla.cli.reassign:elect_leaders", "Have the preferred replicas lead."),
    "quorum": ("ottla.cli.quorum:quorum", "Show and change who votes on the cluster's metadata."),
    "cluster": ("ottla.cli.cluster:cluster", "Describe the cluster."),
    "log": ("ottla.cli.log:log", "Dump and verify log files on disk."),
    "tls": ("ottla.cli.tls:tls", "Make certificates for a trial."),
    "chaos": (
        "ottla.cli.chaos:chaos",
        "Break a throw-away cluster, or work on a running one, and judge what clients saw.",
    ),
    "completion": ("ottla.cli.completion:completion", "Print the script that completes commands in a shell."),
}


class ReaderGone(Exception):
    """Whoever read standard output has enough. Click would end the command with code 1 for a BrokenPipeError."""


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are called; its help needs none of them."""

    def __init__(self, *, commands: dict[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lazy = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in self._lazy.items()])


_UNREACHABLE: Final = (
    "Is a cluster running there? `ottla up` starts one; --server or OTTLA_SERVER names its gRPC port (Kafka's + 1000), "
    "--tls-ca or OTTLA_TLS_CA the authority of one that speaks TLS."
)


@click.group(
    cls=LazyGroup,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `ottla up`; `ottla COMMAND --help` tells about each command.",
)
@click.version_option(f"{__version__} ({build_name()})", prog_name="ottla")
def cli() -> None:
    """A replicated event-streaming cluster that speaks Kafka."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit the process with its code."""
    code: int
    try:
        result = cli.main(arguments, prog_name="ottla", standalone_mode=False)
        sys.stdout.flush()
        code = int(result) if isinstance(result, int) else Exit.DONE
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = Exit.INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        # Python would complain about it once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.DONE
    except OttlaError as error:
        click.echo(f"ottla: {error}", err=True)
        code = exit_code(error)
        if code == Exit.UNREACHABLE:
            click.echo(getattr(error, "hint", _UNREACHABLE), err=True)
    except OSError as error:
        click.echo(f"ottla: {error}", err=True)
        code = Exit.FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
