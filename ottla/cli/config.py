"""`ottla config`: the configuration's fields, and where the values in force come from."""

from pathlib import Path

import click

from ottla.cli.output import json_option, print_json, print_table


@click.group()
def config() -> None:
    """Print an example configuration, or the one in force."""


@config.command()
def example() -> None:
    """Print a TOML file with every field, its unit, its default and the reason for it."""
    from ottla.node.config_example import example_toml

    click.echo(example_toml(), nl=False)


@config.command()
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="The TOML file.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="As for `ottla node run`.")
@click.option("--origin", "with_origin", is_flag=True, help="Say where each value comes from.")
@json_option
def show(*, file: Path | None, assignments: tuple[str, ...], with_origin: bool, as_json: bool) -> None:
    """Show the configuration that a node would start with, checked."""
    from ottla.node.config import NodeConfig, from_assignments
    from ottla.node.settings import SETTINGS

    loaded = NodeConfig.load(flags=from_assignments(assignments, node={}), file=file)
    values: dict[str, object] = {setting.name: getattr(loaded, setting.name) for setting in SETTINGS}
    values |= loaded.kafka
    if as_json:
        origins = {name: {"value": value, "origin": loaded.origins[name]} for name, value in values.items()}
        print_json(origins if with_origin else values)
        return
    columns = ("name", "value", "origin") if with_origin else ("name", "value")
    print_table(
        columns,
        [(name, value, loaded.origins[name])[: len(columns)] for name, value in values.items()],
    )
