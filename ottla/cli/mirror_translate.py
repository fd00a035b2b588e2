"""`ottla mirror translate`: where an offset of one side is on the other."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ottla.cli.client import run
from ottla.cli.exit_codes import Exit
from ottla.cli.mirror import config_argument, read_config
from ottla.cli.output import examples, json_option, print_json
from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client.types import TopicPartition
    from ottla.mirror.config import FlowConfig, MirrorConfig


@click.command(
    epilog=examples(
        "ottla mirror translate mirror.toml 'a->b' orders-0 1234",
        "ottla mirror translate mirror.toml 'a->b' orders-0 1300 --reverse",
    )
)
@config_argument
@click.argument("flow", metavar="A->B")
@click.argument("partition", metavar="TOPIC-PARTITION")
@click.argument("offset", type=click.IntRange(min=0))
@click.option("--reverse", is_flag=True, help="OFFSET is one of the copy, in B; say where it is in A.")
@json_option
def translate(*, file: Path, flow: str, partition: str, offset: int, reverse: bool, as_json: bool) -> int:
    """Say where a consumer goes on in B that is to read OFFSET next in A.

    TOPIC is the original's name, in A. The answer is exact for every offset that is copied or left out on purpose: who
    goes on there reads the records that he would have read. An offset that was not copied yet has none: exit code 7.
    """
    name, dash, index = partition.rpartition("-")
    if not dash or not index.isdigit():
        raise ConfigError(f"{partition}: write a topic and a partition, as in orders-0")
    config, [chosen] = read_config(file, (flow,))
    copy, found = run(_translate(config, chosen, name, int(index), offset, reverse))
    if as_json:
        print_json(
            {
                "topic": name if reverse else copy.topic,
                "partition": copy.partition,
                "offset": found,
            }
        )
    elif found is not None:
        click.echo(found)
    if found is None:
        what = f"the copy of {partition} does not reach" if reverse else f"{partition} is not copied up to"
        click.echo(f"ottla: {what} offset {offset} yet: `ottla mirror status` shows how far it is", err=True)
        return Exit.NOT_YET
    return Exit.DONE


async def _translate(
    config: "MirrorConfig", flow: "FlowConfig", topic: str, index: int, offset: int, reverse: bool
) -> "tuple[TopicPartition, int | None]":
    from ottla.client.errors import ClientError, ErrorCode
    from ottla.client.types import TopicPartition
    from ottla.mirror.operations.observing import Observer

    async with Observer(config, [flow]) as observer:
        found = observer.copy_of(flow, TopicPartition(topic, index))
        if found is None:
            message = f"no copy by {flow.name} is known"
            raise ClientError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message, topic=topic, partition=index)
        copy = TopicPartition(found.target_topic, index)
        return copy, found.map.to_source(offset) if reverse else found.map.to_target(offset)
