"""The same topic in several clusters, written in all of them: python -m examples.mirror.active_active

First two clusters with a flow each way, then three in a ring. All topics have the same name, so a copy looks like an
original; what keeps records from going round is where they came from, which every mirror knows.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.mirror.local import (
    Failed,
    all_of,
    configure,
    expect_each_once,
    make_topic,
    mirroring,
    say,
    wait_until,
    wait_until_copied,
    write,
)
from ottla.testing.cluster import Cluster

PAIR = ("a->b", "b->a")
RING = ("a->b", "b->c", "c->a")
ROUNDS = 4


def main(count: int = 1000, flows: Sequence[str] = PAIR) -> None:
    """`count`: records in each cluster, a multiple of the rounds."""
    aliases = sorted({alias for flow in flows for alias in flow.split("->")})
    with TemporaryDirectory() as directory, ExitStack() as stack:
        servers = {alias: stack.enter_context(Cluster()).bootstrap for alias in aliases}
        config = configure(Path(directory), servers, flows, settings='replication_policy_class = "identity"')
        for server in servers.values():
            make_topic(server)
        stack.enter_context(mirroring(config))
        say(f"{', '.join(flows)}: {count} records in each of {len(aliases)} clusters, at the same time ...")
        total = len(aliases) * count
        for start in range(0, total, total // ROUNDS):
            for cluster, server in enumerate(servers.values()):
                write(server, range(start + cluster, start + total // ROUNDS, len(aliases)))
        for alias, server in servers.items():
            wait_until(lambda server=server: len(all_of(server)) == total, f"{alias} has all")  # type: ignore[misc]
        wait_until_copied(config)
        time.sleep(1)  # what goes round would do so now
        for alias, server in servers.items():
            expect_each_once(all_of(server), range(total), alias)
        say(f"{total} records in each cluster, each once.")


if __name__ == "__main__":
    try:
        main()
        main(flows=RING)
    except Failed as failure:
        sys.exit(str(failure))
