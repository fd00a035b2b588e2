"""`ottla mirror promote` and `reverse`: mirror topics become ordinary ones, and old sources their mirrors."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ottla.cli.client import run
from ottla.cli.exit_codes import Exit
from ottla.cli.mirror import config_argument, read_config
from ottla.cli.output import examples, json_option, print_json, print_table

if TYPE_CHECKING:
    from ottla.client.errors import ClientError
    from ottla.mirror.config import FlowConfig, MirrorConfig
    from ottla.mirror.operations.promoting import Promotion, Reversal

_TIMEOUT_S = 60.0


@click.command(
    epilog=examples(
        "ottla mirror promote mirror.toml 'a->b' orders",
        "ottla mirror promote mirror.toml 'a->b' --all --now",
    )
)
@config_argument
@click.argument("flow", metavar="A->B")
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All mirror topics of the flow.")
@click.option("--now", is_flag=True, help="Do not wait for what is not copied yet: it is lost. A need not be there.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=_TIMEOUT_S,
    show_default=True,
    help="How long to wait until all is copied, in seconds.",
)
@json_option
def promote(
    *, file: Path, flow: str, topics: tuple[str, ...], every: bool, now: bool, timeout_s: float, as_json: bool
) -> int:
    """Make mirror topics in B ordinary topics, which clients may write.

    For flows with exact = true. A planned move loses nothing: stop whoever writes in A, and run this; it waits until
    the mirror has copied the rest. With --now it is done at once, and says what A holds that B does not, where A can
    be asked. Transactions that are open in the copied log are aborted. Groups go on in B at the offsets of A.

    Each step can be repeated: when the command is interrupted, run it again.
    """
    if bool(topics) == every:
        raise click.UsageError("name the topics to promote, or say --all")
    config, [chosen] = read_config(file, (flow,))
    done, errors = run(_promote(config, chosen, topics, now, timeout_s))
    if as_json:
        print_json(
            {
                "flow": flow,
                "topics": {one.topic: _promotion_json(one) for one in done},
                "errors": {topic: str(error) for topic, error in errors.items()},
            }
        )
        return Exit.FAILED if errors else Exit.DONE
    rows = [(one.topic, "promoted" if not one.was_promoted else "was promoted", *_figures(one)) for one in done]
    rows += [(topic, "not promoted", None, None, str(error)) for topic, error in errors.items()]
    print_table(("topic", "", "aborted transactions", "lost records", ""), rows)
    return Exit.FAILED if errors else Exit.DONE


@click.command(
    epilog=examples(
        "ottla mirror reverse mirror.toml 'a->b' orders",
        "ottla mirror reverse mirror.toml 'a->b' orders --discard-diverged",
    )
)
@config_argument
@click.argument("flow", metavar="A->B")
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@click.option(
    "--discard-diverged",
    is_flag=True,
    help="Delete a topic in A that holds records which B does not have, and copy it anew.",
)
@json_option
def reverse(*, file: Path, flow: str, topics: tuple[str, ...], discard_diverged: bool, as_json: bool) -> int:
    """Make topics in A mirrors of those that were promoted in B.

    A topic in A that ends where the promotion happened turns in place: only what was written in B since is copied.
    One that holds more is left alone, and it is said how many records; with --discard-diverged they are given up.
    Afterwards a flow B->A with exact = true copies, in the same file.
    """
    config, [chosen] = read_config(file, (flow,))
    done, errors = run(_reverse(config, chosen, topics, discard_diverged))
    if as_json:
        print_json(
            {
                "flow": flow,
                "topics": {
                    one.topic: {"in_place": one.in_place, "discarded_records": sum(one.diverged.values())}
                    for one in done
                },
                "errors": {topic: str(error) for topic, error in errors.items()},
                "diverged": {topic: _diverged(error) for topic, error in errors.items() if _diverged(error)},
            }
        )
        return Exit.FAILED if errors else Exit.DONE
    rows = [(one.topic, _said(one), sum(one.diverged.values()) or None, "") for one in done]
    rows += [
        (topic, "not reversed", sum(_diverged(error).values()) or None, str(error)) for topic, error in errors.items()
    ]
    print_table(("topic", "", "diverged records", ""), rows)
    return Exit.FAILED if errors else Exit.DONE


async def _promote(
    config: "MirrorConfig", flow: "FlowConfig", topics: tuple[str, ...], now: bool, timeout_s: float
) -> "tuple[list[Promotion], dict[str, ClientError]]":
    from ottla.client.errors import ClientError
    from ottla.mirror.operations.observing import Observer
    from ottla.mirror.operations.promoting import promotable, promote

    done, errors = [], {}
    async with Observer(config, [flow]) as observer:
        for topic in topics or await promotable(observer, flow):
            try:
                done.append(await promote(observer, flow, topic, now=now, timeout_s=timeout_s))
            except ClientError as error:
                errors[topic] = error
    return done, errors


async def _reverse(
    config: "MirrorConfig", flow: "FlowConfig", topics: tuple[str, ...], discard_diverged: bool
) -> "tuple[list[Reversal], dict[str, ClientError]]":
    from ottla.client.errors import ClientError
    from ottla.mirror.operations.observing import Observer
    from ottla.mirror.operations.promoting import reverse

    done, errors = [], {}
    async with Observer(config, [flow]) as observer:
        for topic in topics:
            try:
                done.append(await reverse(observer, flow, topic, discard_diverged=discard_diverged))
            except ClientError as error:
                errors[topic] = error
    return done, errors


def _promotion_json(one: "Promotion") -> dict[str, object]:
    return {
        "was_promoted": one.was_promoted,
        "end_offsets": list(one.end_offsets),
        "aborted_transactions": one.aborted_transactions,
        "lost_records": None if one.lost_records is None else sum(one.lost_records.values()),
        "lost_by_partition": None if one.lost_records is None else {str(i): n for i, n in one.lost_records.items()},
    }


def _figures(one: "Promotion") -> tuple[object, object, str]:
    if one.lost_records is None:
        return one.aborted_transactions, None, "the source cannot be asked what is lost"
    return one.aborted_transactions, sum(one.lost_records.values()), ""


def _said(one: "Reversal") -> str:
    if one.was_reversed:
        return "was reversed"
    return "turned in place" if one.in_place else "made anew"


def _diverged(error: "ClientError") -> dict[int, int]:
    return getattr(error, "diverged", {})
