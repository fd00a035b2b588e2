"""A link that keeps every byte and offset, moved with a plan, then by a disaster: python -m examples.mirror.exact_link

1. `orders` is written in primary. In backup it is a mirror topic: the same batches at the same offsets, read-only.
2. A planned move: the writers stop, `ottla mirror promote` waits for the last record, and the group goes on in backup
   at the offset that it had. `ottla mirror reverse` makes primary the mirror; nothing is copied twice.
3. backup dies. `ottla mirror failover` promotes primary's topic at once, and says how old its youngest record is.
4. backup comes back, and is a mirror again.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.mirror.local import (
    GROUP,
    PARTITIONS,
    TOPIC,
    Failed,
    all_of,
    check_copies,
    configure,
    expect,
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
from ottla.client.sync import Admin
from ottla.testing.cluster import Cluster

THERE, BACK = "primary->backup", "backup->primary"
SETTINGS = "exact = true\nsync_group_offsets_enabled = true\nsync_group_offsets_interval_seconds = 1"


def main(count: int = 1000) -> None:
    """`count`: records of each of the three phases."""
    with TemporaryDirectory() as directory, Cluster() as primary, Cluster() as backup:
        servers = {"primary": primary.grpc, "backup": backup.grpc}
        config = configure(Path(directory), servers, (THERE, BACK), settings=SETTINGS, protocol="grpc")
        make_topic(primary.bootstrap)
        with mirroring(config):
            say("Writing and reading in primary ...")
            write(primary.bootstrap, range(count))
            read = read_as_group(primary.bootstrap, count // 2)
            wait_until_copied(config, THERE)
            read += move_to_backup(config, backup, count, len(read))
            wait_until_copied(config, BACK)
            check_copies(config)
            wait_until(lambda: committed(primary) == committed(backup), "the group's offsets are in primary, too")
            read += lose_backup(config, primary, backup, count)
        expect_each_once(read, range(3 * count), "the group")
        expect_each_once(all_of(backup.bootstrap), range(3 * count), "backup")
        say(f"The group has read {3 * count} records, each once, across both moves.")


def move_to_backup(config: Path, backup: Cluster, count: int, already_read: int) -> list[int]:
    """Nothing is lost, and primary follows from then on; what the group reads meanwhile."""
    promoted = ottla_mirror("promote", config, THERE, TOPIC)["topics"][TOPIC]
    expect(promoted["lost_records"] == 0, "a planned move loses nothing")
    say(f"Promoted in backup, at {promoted['end_offsets']}.")
    ottla_mirror("failover", config, THERE, "--execute")
    say("The group goes on in backup, at the offsets of primary.")
    reversed_ = ottla_mirror("reverse", config, THERE, TOPIC)["topics"][TOPIC]
    expect(reversed_["in_place"], "primary becomes the mirror without a copy of what it has")
    write(backup.bootstrap, range(count, 2 * count))
    return read_as_group(backup.bootstrap, 2 * count - already_read)


def lose_backup(config: Path, primary: Cluster, backup: Cluster, count: int) -> list[int]:
    """The disaster, the work after it, and the return of the other cluster; what the group reads."""
    say("Killing backup ...")
    backup.kill()
    lost = ottla_mirror("failover", config, BACK, "--execute")
    expect(lost["promoted"] == [TOPIC], "the topic is promoted")
    say("The group goes on in primary.")
    write(primary.bootstrap, range(2 * count, 3 * count))
    read = read_as_group(primary.bootstrap, count)
    say("Starting backup again ...")
    backup.start()
    reversed_ = ottla_mirror("reverse", config, BACK, TOPIC)["topics"][TOPIC]
    expect(reversed_["in_place"], "backup has nothing that primary does not have")
    wait_until_copied(config, THERE)
    check_copies(config)
    return read


def committed(cluster: Cluster) -> list[int]:
    """Where the group stands in each partition."""
    with Admin(bootstrap_servers=cluster.bootstrap, protocol="kafka") as admin:
        offsets = {one.partition: it.offset for one, it in admin.list_group_offsets(GROUP).items()}
    return [offsets.get(partition, 0) for partition in range(PARTITIONS)]


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
