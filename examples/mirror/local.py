"""What the scenarios share: a mirror process, the commands of `ottla mirror`, and an application that counts.

The application speaks the Kafka protocol through Ottla's client, so either side may be Apache Kafka.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ottla.client.sync import Admin, Consumer, Producer

TOPIC: Final = "orders"
GROUP: Final = "billing"
PARTITIONS: Final = 3
PATIENCE_S: Final = 120.0

_OTTLA: Final = (sys.executable, "-m", "ottla.cli")


class Failed(Exception):
    """A scenario did not go as it should."""


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, flush=True)


def expect(condition: bool, what: str) -> None:
    """Raises Failed unless it holds."""
    if not condition:
        raise Failed(what)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again; raises Failed when it does not come true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"after {PATIENCE_S:.0f} s still not: {what}")
        time.sleep(0.2)


# -- the mirror


@contextmanager
def mirroring(config: Path) -> Iterator[None]:
    """`ottla mirror run`, until the block ends; what it logs is kept beside the configuration."""
    with config.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen([*_OTTLA, "mirror", "run", str(config)], stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ottla_mirror(command: str, config: Path, *arguments: str) -> Any:
    """One of the commands of `ottla mirror`; its JSON."""
    asked = subprocess.run(
        [*_OTTLA, "mirror", command, str(config), *arguments, "--json"], check=False, capture_output=True, text=True
    )
    if asked.returncode != 0:
        raise Failed(f"ottla mirror {command}: {asked.stderr}\n{asked.stdout}")
    return json.loads(asked.stdout)


def wait_until_copied(config: Path, *flows: str) -> None:
    """Until `ottla mirror status` shows nothing of the orders behind."""

    def is_copied() -> bool:
        chosen = [word for flow in flows for word in ("--flow", flow)]
        for flow in ottla_mirror("status", config, *chosen):
            partitions = [one for one in flow["partitions"] if one["topic"] == TOPIC]  # beside the heartbeats
            if not partitions or any(one["position"] is None or one["behind"] != 0 for one in partitions):
                return False
        return True

    wait_until(is_copied, "everything is copied")


def check_copies(config: Path) -> None:
    """`ottla mirror verify`: originals and copies are the same, record by record."""
    for one in ottla_mirror("verify", config, "--topic", TOPIC):
        expect(one["good"], f"{one['flow']} {one['topic']}-{one['partition']}: {one['differences']}")


# -- the application


def make_topic(server: str, topic: str = TOPIC) -> None:
    """With the partitions that the scenarios use."""
    with Admin(bootstrap_servers=server, protocol="kafka") as admin:
        admin.create_topic(topic, num_partitions=PARTITIONS)


def write(server: str, numbers: Iterable[int], topic: str = TOPIC) -> None:
    """One record for each number, acknowledged when this returns."""
    with Producer(bootstrap_servers=server, protocol="kafka") as producer:
        for number in numbers:
            producer.send(topic, b"%d" % number, key=b"%d" % (number % 7))
        producer.flush()


def read_as_group(server: str, wanted: int, *topics: str) -> list[int]:
    """What the group reads next, `wanted` records at least, with its offsets committed."""
    found: list[int] = []
    with Consumer(
        *(topics or (TOPIC,)),
        bootstrap_servers=server,
        protocol="kafka",
        group_id=GROUP,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        enable_auto_commit=False,
    ) as consumer:
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < wanted:
            if time.monotonic() > deadline:
                raise Failed(f"{len(found)} of {wanted} records came to the group")
            for records in consumer.poll(500).values():
                found += [int(record.value or b"-1") for record in records]
        consumer.commit()
    return found


def all_of(server: str, topic: str = TOPIC) -> Counter[int]:
    """How often each number stands in the topic, for readers of committed data."""
    found: Counter[int] = Counter()
    with Consumer(
        topic,
        bootstrap_servers=server,
        protocol="kafka",
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    ) as consumer:
        ends = consumer.end_offsets(consumer.assignment())
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(500).values():
                found.update(int(record.value or b"-1") for record in records)
    return found


def expect_each_once(found: Counter[int] | list[int], wanted: Iterable[int], where: str) -> None:
    """Raises Failed when a number is missing, or there more than once."""
    counted = Counter(found)
    missing = sorted(set(wanted) - set(counted))
    repeated = sorted(number for number, count in counted.items() if count > 1)
    others = sorted(set(counted) - set(wanted))
    expect(
        not (missing or repeated or others),
        f"{where}: {len(missing)} missing {missing[:5]}, {len(repeated)} repeated {repeated[:5]}, "
        f"{len(others)} that nobody wrote {others[:5]}",
    )


def configure(
    directory: Path, clusters: dict[str, str], flows: Iterable[str], *, settings: str = "", protocol: str = "kafka"
) -> Path:
    """Write a mirror's TOML: addresses (of ports of that protocol) by alias, and flows `a->b`."""
    lines = []
    for alias, servers in clusters.items():
        lines += [f"[clusters.{alias}]", f'bootstrap_servers = "{servers}"', f'protocol = "{protocol}"', ""]
    for flow in flows:
        lines += [f'[flows."{flow}"]', f'topics = ["{TOPIC}"]', ""]
    lines += ["[defaults]", "retry_backoff_max_ms = 1000", settings]
    config = directory / "mirror.toml"
    config.write_text("\n".join(lines) + "\n")
    return config
