"""What works during a run of `chaos.mirror`: the mirror's processes, which faults are done to, and writers."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from confluent_kafka import KafkaException, Producer

from chaos.writers import IMPATIENT


class TransactionWriter(threading.Thread):
    """Transactions of a few records; a fifth is aborted on purpose, and those that fail are."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, random: Random) -> None:
        super().__init__(name="transactions", daemon=True)
        self._servers, self._topic, self._partitions, self._random = bootstrap, topic, partitions, random
        self._stopping = threading.Event()
        self._begun = 0
        self.committed: list[int] = []
        self.aborted: set[int] = set()  # on purpose, and known to be: none of their records may be seen
        self.unknown = 0

    def stop(self) -> None:
        """Return when it has ended."""
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
            number, self._begun = self._begun, self._begun + 1
            self.unknown += 1
            for index in range(self._random.randint(1, 20)):
                value = b"transaction-%d-%d" % (number, index)
                producer.produce(self._topic, value, partition=self._random.randrange(self._partitions))
            try:
                if self._random.random() < 0.2:
                    producer.flush(20)  # so that there is something to abort
                    producer.abort_transaction(60)
                    self.aborted.add(number)
                else:
                    producer.commit_transaction(60)
                    self.committed.append(number)
            except KafkaException as error:
                if not error.args[0].txn_requires_abort():
                    raise
                producer.abort_transaction(60)
                self.aborted.add(number)
            self.unknown -= 1


class Mirrors:
    """Two mirror processes, and what is done to them."""

    def __init__(self, file: Path, directory: Path, random: Random) -> None:
        self._command = [sys.executable, "-m", "ottla.cli", "mirror", "run", str(file), "--json"]
        self._directory, self._random = directory, random
        self._processes: list[subprocess.Popen[bytes]] = []
        self.done: Counter[str] = Counter()
        self.ended = 0

    def start(self) -> None:
        """Begin both."""
        self._processes = [self._begin(number) for number in range(2)]

    def stop(self) -> None:
        """End whatever runs."""
        for process in self._processes:
            process.kill()
            process.wait()

    def _begin(self, number: int) -> "subprocess.Popen[bytes]":
        with (self._directory / f"mirror-{number}.log").open("ab") as log:
            return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)

    def revive(self) -> None:
        """Who has ended by itself, as a cluster was not there when it began, begins anew: as a service manager does."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                self.ended += 1
                self._processes[number] = self._begin(number)

    def one(self) -> str:
        """Draw a fault, do it, and bring back what it took; what was done."""
        self.revive()
        number = self._random.randrange(len(self._processes))
        process = self._processes[number]
        if self._random.random() < 0.6:
            process.kill()
            process.wait()
            self._processes[number] = self._begin(number)
            what = "kill -9"
        else:
            process.send_signal(signal.SIGSTOP)
            time.sleep(self._random.uniform(1, 15))  # the others have taken its share, or are about to
            process.send_signal(signal.SIGCONT)
            what = "zombie"
        self.done[what] += 1
        return f"{what} of process {number}"
