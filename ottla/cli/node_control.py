"""`ottla node stop|kill|start|restart|pause|resume`: single nodes of the local cluster, by way of its supervisor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ottla.cli.local import directory_option, timeout_option
from ottla.node.local.asking import ask

_HELP = {
    "stop": "Stop nodes cleanly (SIGTERM): others lead what they led before they end.",
    "kill": "End nodes at once (SIGKILL), as a crash would.",
    "start": "Start nodes again, on the data and ports that they had.",
    "restart": "Stop and start nodes, one after the other.",
    "pause": "Stop nodes as they are (SIGSTOP): they answer nothing, and their connections stay.",
    "resume": "Let paused nodes go on (SIGCONT).",
}
_DONE = {
    "stop": "stopped",
    "kill": "killed",
    "start": "ready",
    "restart": "ready again",
    "pause": "paused",
    "resume": "running",
}


def command(name: str) -> click.Command:
    """One of them; each returns when it is true."""

    @click.command(name, help=f"{_HELP[name]} Of the cluster that `ottla up` started.")
    @click.argument("nodes", nargs=-1, required=True, type=click.IntRange(min=1), metavar="N...")
    @directory_option
    @timeout_option
    def run(*, nodes: tuple[int, ...], directory: Path, timeout: float) -> None:
        numbers = list(dict.fromkeys(nodes))
        if name == "restart":
            for number in numbers:
                for step in ("stop", "start"):
                    ask(directory, step, nodes=[number], timeout_s=timeout)
                click.echo(_told([number], name))
        else:
            ask(directory, name, nodes=numbers, timeout_s=timeout)
            click.echo(_told(numbers, name))

    return run


def _told(numbers: list[int], name: str) -> str:
    who = f"node {numbers[0]} is" if len(numbers) == 1 else f"nodes {', '.join(map(str, numbers))} are"
    return f"{who} {_DONE[name]}"


def add_to(group: "Callable[..., Any] | click.Group") -> None:
    """Put all of them into `ottla node`."""
    assert isinstance(group, click.Group)
    for name in _HELP:
        group.add_command(command(name))
