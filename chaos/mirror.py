"""`python -m chaos.mirror`: a mirror between two clusters while its processes and the nodes of both are killed.

    python -m chaos.mirror --for 300 --seed 7

Writers fill the source, one in transactions of which a fifth is aborted. Two mirror processes share the work; they are
killed, or stopped until others have taken their share and then go on as zombies. Nodes of both clusters are killed,
paused and restarted, one, two or all at once. Exit code 1 unless the copy holds each committed record of the source
once and in order, at the offset that the mirror's own map tells.
"""

import asyncio
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

import click
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.faults import Faults
from chaos.writers import IMPATIENT, KafkaWriter
from ottla.client import types
from ottla.mirror.config import load_config
from ottla.mirror.operations.observing import Observer
from ottla.mirror.operations.verification import verify
from ottla.testing.cluster import Cluster, ClusterError

NODES: Final = 3
TOPIC: Final = "orders"
COPY: Final = f"a.{TOPIC}"
RECORDS_A_SECOND: Final = 200
PATIENCE_S: Final = 180.0
SETTINGS: Final = {
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
}


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("--for", "seconds", default=300, show_default=True, help="How long faults are done.")
@click.option("--seed", default=0, help="What is drawn; 0: another seed each time.")
@click.option("--partitions", default=6, show_default=True)
def main(*, seconds: int, seed: int, partitions: int) -> int:
    """One run."""
    seed = seed or int(time.time())
    directory = Path(tempfile.mkdtemp(prefix="ottla-chaos-mirror-"))
    click.echo(f"seed {seed}, data in {directory}")
    with (
        Cluster(directory / "a", nodes=NODES, settings=SETTINGS) as source,
        Cluster(directory / "b", nodes=NODES, settings=SETTINGS) as target,
    ):
        file = directory / "mirror.toml"
        file.write_text(_configuration(source, target))
        create(source, partitions)
        mirrors = Mirrors(file, directory, Random(seed))
        writer = KafkaWriter("source", TOPIC, partitions, source.bootstrap, IMPATIENT)
        writer.records_a_second = RECORDS_A_SECOND
        transactions = TransactionWriter(source.bootstrap, partitions, Random(seed + 1))
        try:
            mirrors.start()
            writer.start()
            transactions.start()
            faults = [
                Faults(source, Random(seed + 2), nodes=NODES),
                Faults(target, Random(seed + 3), nodes=NODES),
            ]
            trouble(faults, mirrors, Random(seed + 4), seconds)
            written = writer.stop()
            transactions.stop()
            problems = judge(source, target, file, partitions)
        finally:
            mirrors.stop()
    click.echo(f"{len(written.acknowledged)} records acknowledged, {len(written.refused)} refused; ")
    click.echo(f"{transactions.committed} transactions committed, {transactions.aborted} aborted")
    for name, one in zip(("source", "target"), faults, strict=True):
        click.echo(f"{name}: {dict(Counter(fault.kind for fault in one.done))}")
    click.echo(f"mirrors: {dict(mirrors.done)}")
    click.echo("\n".join(problems) or "every committed record is in the copy, once, in order, where the map says")
    return 1 if problems else 0


def _configuration(source: Cluster, target: Cluster) -> str:
    return (
        f'[clusters.a]\nbootstrap_servers = "{source.bootstrap}"\n'
        f'[clusters.b]\nbootstrap_servers = "{target.bootstrap}"\n'
        f'[flows."a->b"]\ntopics = ["{TOPIC}"]\nreplication_factor = {NODES}\n'
        f"retry_backoff_max_ms = 2000\n"
    )


def create(cluster: Cluster, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 2})
    for future in admin.create_topics([NewTopic(TOPIC, partitions, NODES)]).values():
        future.result(30)


class TransactionWriter(threading.Thread):
    """Transactions of a few records; a fifth is aborted on purpose, and those that fail are."""

    def __init__(self, bootstrap: str, partitions: int, random: Random) -> None:
        super().__init__(name="transactions", daemon=True)
        self._servers, self._partitions, self._random = bootstrap, partitions, random
        self._stopping = threading.Event()
        self.committed = self.aborted = 0

    def stop(self) -> None:
        self._stopping.set()
        self.join(120)

    def run(self) -> None:
        """With a new producer after an error that is not to be aborted."""
        while not self._stopping.is_set():
            with suppress(KafkaException):
                self._write()

    def _write(self) -> None:
        producer = Producer(
            {
                **IMPATIENT,
                "bootstrap.servers": self._servers,
                "transactional.id": "chaos-mirror",
                "message.timeout.ms": 30_000,  # shorter than a transaction may take
                "log_level": 2,
            }
        )
        producer.init_transactions(60)
        while not self._stopping.wait(0.1):
            producer.begin_transaction()
            number = self.committed + self.aborted
            for index in range(self._random.randint(1, 20)):
                value = b"transaction-%d-%d" % (number, index)
                producer.produce(TOPIC, value, partition=self._random.randrange(self._partitions))
            try:
                if self._random.random() < 0.2:
                    producer.abort_transaction(60)
                    self.aborted += 1
                else:
                    producer.commit_transaction(60)
                    self.committed += 1
            except KafkaException as error:
                if not error.args[0].txn_requires_abort():
                    raise
                producer.abort_transaction(60)
                self.aborted += 1


class Mirrors:
    """Two mirror processes, and what is done to them."""

    def __init__(self, file: Path, directory: Path, random: Random) -> None:
        self._command = [sys.executable, "-m", "ottla.cli", "mirror", "run", str(file), "--json"]
        self._directory, self._random = directory, random
        self._processes: list[subprocess.Popen[bytes]] = []
        self.done: Counter[str] = Counter()

    def start(self) -> None:
        self._processes = [self._begin(number) for number in range(2)]

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _begin(self, number: int) -> subprocess.Popen[bytes]:
        with (self._directory / f"mirror-{number}.log").open("ab") as log:
            return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)

    def one(self) -> None:
        """Draw a fault, do it, and bring back what it took."""
        number = self._random.randrange(len(self._processes))
        process = self._processes[number]
        if process.poll() is not None:  # a cluster that was not there when it began
            self.done["ended by itself"] += 1
        elif self._random.random() < 0.6:
            process.kill()
            process.wait()
            self.done["kill -9"] += 1
        else:
            process.send_signal(signal.SIGSTOP)
            time.sleep(self._random.uniform(1, 25))
            process.send_signal(signal.SIGCONT)
            self.done["zombie"] += 1
            return
        self._processes[number] = self._begin(number)


def trouble(faults: list[Faults], mirrors: Mirrors, random: Random, seconds: float) -> None:
    """Until the time is over; at the end everything runs."""
    until = time.monotonic() + seconds

    def go(one: Faults, seed: int) -> None:
        drawn = Random(seed)
        while time.monotonic() < until:
            time.sleep(drawn.uniform(2, 8))
            with suppress(ClusterError):  # a busy machine: what is not up again in time comes later
                one.one()

    threads = [threading.Thread(target=go, args=(one, random.randrange(1 << 30))) for one in faults]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        time.sleep(random.uniform(2, 10))
        mirrors.one()
    for thread in threads:
        thread.join()
    mirrors.one()  # whoever ended by itself runs again


def judge(source: Cluster, target: Cluster, file: Path, partitions: int) -> list[str]:
    """What is wrong; nothing: []."""
    problems: list[str] = []
    for partition in range(partitions):
        deadline = time.monotonic() + PATIENCE_S
        while True:  # the source may have to settle too
            originals, copies = values(source, TOPIC, partition), values(target, COPY, partition)
            if copies == originals or time.monotonic() > deadline:
                break
            time.sleep(1)
        click.echo(f"partition {partition}: {len(originals)} records, {len(copies)} copies")
        if copies != originals:
            lost, twice = Counter(originals) - Counter(copies), Counter(copies) - Counter(originals)
            problems.append(
                f"partition {partition}: {len(lost)} lost {list(lost)[:3]}, {len(twice)} twice {list(twice)[:3]}"
                f"{'' if lost or twice else ', another order'}"
            )
    return problems + asyncio.run(_verify(file, partitions))


def values(cluster: Cluster, topic: str, partition: int) -> list[bytes]:
    """The committed ones, up to where the partition ends now."""
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": "judge",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 2,
        }
    )
    found: list[bytes] = []
    consumer.assign([TopicPartition(topic, partition, 0)])
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(message.value() or b"")
            elif error.name() == "_PARTITION_EOF":
                break
    finally:
        consumer.close()
    return found


async def _verify(file: Path, partitions: int) -> list[str]:
    config = load_config(file)
    problems: list[str] = []
    async with Observer(config, config.flows) as observer:
        for index in range(partitions):
            original, copy = types.TopicPartition(TOPIC, index), types.TopicPartition(COPY, index)
            copied = observer.copy_of(config.flows[0], original)
            if copied is None:
                problems.append(f"partition {index}: no map")
                continue
            verdict = await verify(observer.sides["a"], observer.sides["b"], original, copy, copied, compacted=False)
            problems += [f"partition {index}: {one}" for one in verdict.differences]
            problems += [f"partition {index}: {verdict.foreign} foreign"] if verdict.foreign else []
    return problems


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
