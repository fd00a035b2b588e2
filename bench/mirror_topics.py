"""`python -m bench.mirror_topics`: what our mirror costs with many topics, and how soon it finds a new one.

Two clusters of one Ottla node; topics of one partition, which nobody writes to; the mirror as it comes.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from bench import costs, peers
from bench.cluster import Cluster
from bench.mirror import running_mirror

AT_ONCE: Final = 200
SETTLES_S: Final = 10
IDLE_S: Final = 20
PATIENCE_S: Final = 120.0


def main() -> int:
    """Print a line for each figure."""
    options = argparse.ArgumentParser(prog="python -m bench.mirror_topics", description=__doc__.splitlines()[0])
    options.add_argument("--topics", type=int, default=1_000)
    chosen = options.parse_args()
    with peers.ottla() as one, peers.ottla() as another:
        source, target = one.cluster, another.cluster
        create(source, [f"many-{number}" for number in range(chosen.topics)])
        properties = [
            "clusters = a, b",
            f"a.bootstrap.servers = {source.bootstrap}",
            f"b.bootstrap.servers = {target.bootstrap}",
            "a->b.enabled = true",
            "a->b.topics = many-.*",
        ]
        with tempfile.TemporaryDirectory(prefix="bench-mirror-") as directory:
            file = Path(directory, "mm2.properties")
            file.write_text("\n".join(properties) + "\n")
            with running_mirror(file) as (process, typed_at):
                admin = target.admin()
                while len(copies := names(admin)) < chosen.topics:
                    in_time(typed_at, f"{len(copies)} of {chosen.topics} topics")
                    time.sleep(0.1)
                print(f"all {chosen.topics} topics are on the other side after {time.time() - typed_at:.1f} s")
                time.sleep(SETTLES_S)
                cpu_s = costs.cpu_s(process.pid)
                time.sleep(IDLE_S)
                idle = (costs.cpu_s(process.pid) - cpu_s) / IDLE_S
                print(f"at rest {100 * idle:.1f}% of a core, {costs.pss_mib(process.pid):.0f} MiB")
                created_at = time.time()
                create(source, ["many-more"])
                producer = source.producer()
                producer.produce("many-more", b"first")
                producer.flush(30)
                while not has_a_record(admin, "a.many-more"):
                    in_time(created_at, "the record of a new topic")
                    time.sleep(0.02)
                print(f"a record of a new topic is on the other side after {time.time() - created_at:.2f} s")
    return 0


def create(cluster: Cluster, topics: list[str]) -> None:
    admin = cluster.admin()
    for begin in range(0, len(topics), AT_ONCE):
        new = [NewTopic(name, 1, 1) for name in topics[begin : begin + AT_ONCE]]
        for created in admin.create_topics(new, operation_timeout=60).values():
            created.result(60)


def names(admin: AdminClient) -> set[str]:
    return {name for name in admin.list_topics(timeout=30).topics if name.startswith("a.many-")}


def has_a_record(admin: AdminClient, topic: str) -> bool:
    """Markers of transactions count."""
    if topic not in names(admin):  # librdkafka would go on believing for a while that it does not exist
        return False
    partition = TopicPartition(topic, 0)
    try:
        found = admin.list_offsets({partition: OffsetSpec.latest()}, request_timeout=10)[partition].result()
    except KafkaException:  # it has no leader yet
        return False
    return int(found.offset) > 0


def in_time(begun_at: float, what: str) -> None:
    if time.time() - begun_at > PATIENCE_S:
        raise TimeoutError(f"{what}, and no more in {PATIENCE_S:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
