"""A cluster dies, its work goes on in another, and comes back: python -m examples.mirror.active_passive

1. `orders` is written and read in primary, and mirrored to backup under the same name.
2. primary is killed. `ottla mirror failover` moves the group to backup; writers and readers go on there.
3. primary comes back. What was written in backup flows to it, what it alone had to backup, and nothing goes round.
4. When both are in step the group moves back, to the offset, and the work goes on in primary.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.mirror.local import (
    GROUP,
    PARTITIONS,
    Failed,
    all_of,
    configure,
    expect_each_once,
    make_topic,
    mirroring,
    ottla_mirror,
    read_as_group,
    say,
    wait_until,
    wait_until_copied,
    write,
)
from ottla.testing.cluster import Cluster

FLOWS = ("primary->backup", "backup->primary")


def main(count: int = 1000) -> None:
    """`count`: records of each of the three phases, a multiple of 4."""
    with TemporaryDirectory() as directory, Cluster() as primary, Cluster() as backup:
        servers = {"primary": primary.bootstrap, "backup": backup.bootstrap}
        settings = 'replication_policy_class = "identity"\nemit_checkpoints_interval_seconds = 1'
        config = configure(Path(directory), servers, FLOWS, settings=settings)
        for server in servers.values():
            make_topic(server)
        with mirroring(config):
            say("Writing and reading in primary ...")
            write(primary.bootstrap, range(count))
            read = read_as_group(primary.bootstrap, count * 3 // 4)
            wait_until_copied(config, FLOWS[0])
            wait_until(lambda: is_checkpointed(config), "the group's checkpoints are in backup")
            read += on_backup(config, primary, backup, count, len(read))
            read += back_on_primary(config, primary, backup, count)
        expect_each_once(read, range(3 * count), "the group")
        say(f"The group has read {3 * count} records, each once, across both moves.")


def on_backup(config: Path, primary: Cluster, backup: Cluster, count: int, already_read: int) -> list[int]:
    """The disaster, and the work after it; what the group reads meanwhile."""
    say("Killing primary ...")
    primary.kill()
    died_at = time.monotonic()
    moved = ottla_mirror("failover", config, FLOWS[0], "--execute")
    say(f"The group goes on in backup after {time.monotonic() - died_at:.1f} s, at {moved['groups'][GROUP]}.")
    write(backup.bootstrap, range(count, 2 * count))
    return read_as_group(backup.bootstrap, 2 * count - already_read)


def back_on_primary(config: Path, primary: Cluster, backup: Cluster, count: int) -> list[int]:
    """primary is there again; what the group reads there."""
    say("Starting primary again; both sides catch up ...")
    primary.start()
    wait_until_copied(config, *FLOWS)
    for alias, cluster in (("primary", primary), ("backup", backup)):
        expect_each_once(all_of(cluster.bootstrap), range(2 * count), alias)
    ottla_mirror("failover", config, FLOWS[1], "--execute")
    write(primary.bootstrap, range(2 * count, 3 * count))
    return read_as_group(primary.bootstrap, count)


def is_checkpointed(config: Path) -> bool:
    """Whether a failover without the source would go on exactly where one with it would."""
    with_source = ottla_mirror("failover", config, FLOWS[0])["groups"].get(GROUP, {})
    without = ottla_mirror("failover", config, FLOWS[0], "--without-source")["groups"].get(GROUP)
    return len(with_source) == PARTITIONS and with_source == without


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
