"""`ottla mirror verify`: originals and copies, record by record."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ottla.cli.client import run
from ottla.cli.exit_codes import Exit
from ottla.cli.mirror import config_argument, read_config
from ottla.cli.output import examples, json_option, print_json, print_table

if TYPE_CHECKING:
    from ottla.mirror.config import FlowConfig, MirrorConfig
    from ottla.mirror.operations.verification import Verdict


@click.command(
    epilog=examples("ottla mirror verify mirror.toml", "ottla mirror verify mirror.toml --topic orders --json")
)
@config_argument
@click.option("--flow", "flows", multiple=True, metavar="A->B", help="Only this flow; may be repeated.")
@click.option("--topic", "topics", multiple=True, help="Only this topic (its name in A); may be repeated.")
@json_option
def verify(*, file: Path, flows: tuple[str, ...], topics: tuple[str, ...], as_json: bool) -> int:
    """Compare originals and copies: key, value, headers and timestamp of each record, and its place.

    What both sides hold is read once, up to where the copy is now. Copies of an exact flow are
    compared byte for byte. Records of the source that came from the target
    are left out on purpose; foreign ones on the target were written by others. Ends with 1 when something differs.
    """
    config, chosen = read_config(file, flows)
    found = run(_verify(config, chosen, topics))
    if as_json:
        print_json(
            [
                {
                    "flow": flow,
                    "topic": one.source.topic,
                    "partition": one.source.partition,
                    "good": one.is_good,
                    "compared": one.compared,
                    "missing": one.missing,
                    "differing": one.differing,
                    "left_out": one.left_out,
                    "foreign": one.foreign,
                    "differences": one.differences,
                }
                for flow, one in found
            ]
        )
    elif not found:
        click.echo("Nothing to compare: nothing is copied yet. `ottla mirror status` shows what there is.")
    else:
        print_table(
            ("flow", "partition", "compared", "missing", "differing", "left out", "foreign", "verdict"),
            [
                (
                    flow,
                    f"{one.source.topic}-{one.source.partition}",
                    one.compared,
                    one.missing,
                    one.differing,
                    one.left_out,
                    one.foreign,
                    "good" if one.is_good else "; ".join(one.differences),
                )
                for flow, one in found
            ],
        )
    return Exit.DONE if all(one.is_good for _, one in found) else Exit.FAILED


async def _verify(
    config: "MirrorConfig", flows: "list[FlowConfig]", topics: tuple[str, ...]
) -> "list[tuple[str, Verdict]]":
    from ottla.client.errors import ClientError, ErrorCode
    from ottla.client.types import ConfigResource, TopicPartition
    from ottla.mirror.operations.exact_verification import verify_exact
    from ottla.mirror.operations.observing import Observer
    from ottla.mirror.operations.verification import verify as compare

    found = []
    unknown = set(topics)
    async with Observer(config, flows) as observer:
        for flow in flows:
            if flow.source in observer.errors:
                raise observer.errors[flow.source]
            source, target = observer.sides[flow.source], observer.sides[flow.target]
            names = observer.names(flow)
            unknown -= names.keys()
            for name, remote in names.items():
                if topics and name not in topics:
                    continue
                resource = ConfigResource.topic(remote)
                configs = (await target.transport.describe_configs([resource], include_documentation=False))[resource]
                policy = configs.get("cleanup.policy") if isinstance(configs, dict) else None
                compacted = policy is not None and "compact" in (policy.value or "")
                for index in range(len(source.topics[name].partitions)):
                    copied = observer.copy_of(flow, TopicPartition(name, index))
                    if copied is not None:
                        original, copy = TopicPartition(name, index), TopicPartition(remote, index)
                        if flow.exact:
                            verdict = await verify_exact(source, target, original, copy, compacted=compacted)
                        else:
                            verdict = await compare(source, target, original, copy, copied, compacted)
                        found.append((flow.name, verdict))
    if unknown:
        raise ClientError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no flow of the file has a copy of it", topic=min(unknown)
        )
    return found
