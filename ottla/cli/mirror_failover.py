"""`ottla mirror failover` and `failback`: groups moved to the other side, after it is shown what would be done."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ottla.cli.client import run
from ottla.cli.durations import spoken
from ottla.cli.exit_codes import Exit
from ottla.cli.mirror import config_argument, read_config
from ottla.cli.output import examples, json_option, print_json, print_table

if TYPE_CHECKING:
    from ottla.client.errors import ClientError
    from ottla.mirror.config import FlowConfig, MirrorConfig
    from ottla.mirror.operations.moving import Loss, Moves

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    execute = click.option("--execute", is_flag=True, help="Do it. Without this it is only shown.")
    back = click.option("--allow-backwards", is_flag=True, help="Also move groups that are further there already.")
    return config_argument(click.argument("flow", metavar="A->B")(execute(back(json_option(command)))))


@click.command(
    epilog=examples(
        "ottla mirror failover mirror.toml 'a->b'",
        "ottla mirror failover mirror.toml 'a->b' --without-source",
        "ottla mirror failover mirror.toml 'a->b' --execute --json",
    )
)
@_options
@click.option(
    "--without-source", is_flag=True, help="Do not ask A: as if it was lost. Shows what a disaster now would cost."
)
def failover(
    *, file: Path, flow: str, execute: bool, allow_backwards: bool, without_source: bool, as_json: bool
) -> int:
    """Move groups from A to B, and say what was lost.

    When A can still be reached, groups go on exactly where they were, and the loss is told in records; a planned
    move waits until it is none. Otherwise they go on from the last checkpoints (they may get some records again,
    never miss any that were copied), and the loss is everything after the youngest copy. Stop the mirror's flow and
    the group's members first. Copies of a flow with exact = true are promoted, too (`ottla mirror promote --now`).
    """
    config, [chosen] = read_config(file, (flow,))
    asked = _failover(config, chosen, execute, allow_backwards, without_source)
    lost, moves, errors, unreachable, promoted = run(asked)
    records = None if any(one.records is None for one in lost) else sum(one.records or 0 for one in lost)
    last = max((one.last_copied_ms for one in lost if one.last_copied_ms is not None), default=None)
    if as_json:
        print_json(
            {
                "flow": flow,
                "executed": execute,
                "source_error": unreachable,
                "lost_records": records,
                "youngest_copy_ms": last,
                "promoted": promoted,
                "partitions": [
                    {
                        "topic": one.source.topic,
                        "partition": one.source.partition,
                        "position": one.position,
                        "lost_records": one.records,
                        "youngest_copy_ms": one.last_copied_ms,
                    }
                    for one in lost
                ],
                **_moves_json(moves, errors),
            }
        )
        return _code(errors)
    if unreachable:
        click.echo(f"{chosen.source} {'is not asked' if without_source else f'cannot be reached: {unreachable}'}")
        ago = "nothing was copied" if last is None else f"the youngest copy is {spoken(time.time() - last / 1000)} old"
        click.echo(f"Lost is what was written there later: {ago}.")
    elif records:
        click.echo(f"{records} offsets are not copied yet. Let the mirror run until `ottla mirror status` shows none.")
    else:
        click.echo("Nothing is lost: everything is copied.")
    if promoted:
        click.echo(f"{'Promoted' if execute else 'Would promote'}: {', '.join(promoted)}.")
    _show(moves, errors, chosen.target, execute)
    return _code(errors)


@click.command(epilog=examples("ottla mirror failback mirror.toml 'a->b' --execute"))
@_options
def failback(*, file: Path, flow: str, execute: bool, allow_backwards: bool, as_json: bool) -> int:
    """Move groups that read the copies in B back to the originals in A.

    Offsets are translated exactly, in the reverse direction of A->B. What was written into B meanwhile comes to A by
    a flow B->A of its own: wait until `ottla mirror status` shows it is complete, and move its groups by
    `ottla mirror failover CONFIG 'B->A'`.
    """
    config, [chosen] = read_config(file, (flow,))
    moves, errors = run(_failback(config, chosen, execute, allow_backwards))
    if as_json:
        print_json({"flow": flow, "executed": execute, **_moves_json(moves, errors)})
    else:
        _show(moves, errors, chosen.source, execute)
    return _code(errors)


async def _failover(
    config: "MirrorConfig", flow: "FlowConfig", execute: bool, may_go_back: bool, without_source: bool
) -> "tuple[list[Loss], Moves, dict[str, ClientError], str | None, list[str]]":
    from ottla.mirror.operations.moving import carry_out, failover_moves, losses
    from ottla.mirror.operations.observing import Observer
    from ottla.mirror.operations.promoting import promotable, promote

    async with Observer(config, [flow], without=[flow.source] if without_source else ()) as observer:
        promoted = await promotable(observer, flow) if flow.exact else []
        if execute and promoted:
            for topic in promoted:
                await promote(observer, flow, topic, now=True, timeout_s=0)
            await observer.look_again()
        lost = await losses(observer, flow)
        moves = await failover_moves(observer, flow, may_go_back=may_go_back)
        errors = await carry_out(observer.sides[flow.target], moves) if execute else {}
        error = observer.errors.get(flow.source)
        return lost, moves, errors, None if error is None else str(error), promoted


async def _failback(
    config: "MirrorConfig", flow: "FlowConfig", execute: bool, may_go_back: bool
) -> "tuple[Moves, dict[str, ClientError]]":
    from ottla.mirror.operations.moving import carry_out, failback_moves
    from ottla.mirror.operations.observing import Observer

    async with Observer(config, [flow]) as observer:
        moves = await failback_moves(observer, flow, may_go_back=may_go_back)
        return moves, await carry_out(observer.sides[flow.source], moves) if execute else {}


def _show(moves: "Moves", errors: "dict[str, ClientError]", where: str, execute: bool) -> None:
    rows: list[tuple[object, ...]] = []
    for group_id, commits in moves.commits.items():
        said = str(errors[group_id]) if group_id in errors else "moved" if execute else "would move"
        rows += [(group_id, f"{one.topic}-{one.partition}", to.offset, said) for one, to in commits.items()]
    for group_id, left_alone in moves.left_alone.items():
        rows += [(group_id, f"{one.topic}-{one.partition}", None, why) for one, why in left_alone.items()]
    if not rows:
        click.echo(f"No group is to be moved: all are in {where} where they should be, or have committed nothing.")
        return
    print_table(("group", f"partition in {where}", "goes on at", ""), rows)
    if not execute:
        click.echo("\nNothing was changed: add --execute.")


def _moves_json(moves: "Moves", errors: "dict[str, ClientError]") -> dict[str, object]:
    return {
        "groups": {
            group_id: {f"{one.topic}-{one.partition}": to.offset for one, to in commits.items()}
            for group_id, commits in moves.commits.items()
        },
        "left_alone": {
            group_id: {f"{one.topic}-{one.partition}": why for one, why in left_alone.items()}
            for group_id, left_alone in moves.left_alone.items()
        },
        "errors": {group_id: str(error) for group_id, error in errors.items()},
    }


def _code(errors: "dict[str, ClientError]") -> int:
    return Exit.FAILED if errors else Exit.DONE
