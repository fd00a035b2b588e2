"""Two clusters into one: python -m examples.mirror.aggregation

`orders` of east and of west become one topic of central, under the same name. Each record is there once, and those of
one source partition are in their order.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.mirror.local import (
    Failed,
    all_of,
    check_copies,
    configure,
    expect_each_once,
    make_topic,
    mirroring,
    say,
    wait_until_copied,
    write,
)
from ottla.testing.cluster import Cluster


def main(count: int = 2000) -> None:
    with TemporaryDirectory() as directory, Cluster() as east, Cluster() as west, Cluster() as central:
        addresses = {"east": east.bootstrap, "west": west.bootstrap, "central": central.bootstrap}
        config = configure(
            Path(directory),
            addresses,
            ("east->central", "west->central"),
            settings='replication_policy_class = "identity"',
        )
        for source in (east, west):
            make_topic(source.bootstrap)
        with mirroring(config):
            say(f"{count} orders in east, {count} in west ...")
            write(east.bootstrap, range(0, 2 * count, 2))
            write(west.bootstrap, range(1, 2 * count, 2))
            wait_until_copied(config)
        expect_each_once(all_of(central.bootstrap), range(2 * count), "central")
        check_copies(config)
        say(f"{2 * count} in central, each once.")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
