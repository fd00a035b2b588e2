"""`ottla completion`: what a shell has to load so that it completes commands and flags."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL, for example: eval "$(ottla completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not supported")
    root = context.find_root().command
    click.echo(kind(root, {}, "ottla", "_OTTLA_COMPLETE").source())
