"""Whether a copy made in transactions is whole: every record once, in order, no transaction torn, none left open."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from chaos.copying import ABORTED, COPY, GROUP, SOURCE

WAIT_S: Final = 120.0
ATTEMPT_S: Final = 10.0
SHOWN: Final = 5


@dataclass(slots=True)
class Judgement:
    """What was looked at, and what is wrong."""

    records: int = 0
    transactions: int = 0
    problems: list[str] = field(default_factory=list)

    def blame(self, what: str) -> None:
        self.problems.append(what)

    def __str__(self) -> str:
        if not self.problems:
            return (
                f"{self.records:,} records in {self.transactions:,} transactions: each once, in order, none torn, no "
                "transaction open"
            )
        return "\n  ".join([f"{len(self.problems)} problems:", *self.problems[:SHOWN]])


def compare(found: Judgement, source: dict[int, list[str]], copy: dict[int, list[tuple[str, str]]]) -> None:
    """The values of each partition of the source with keys and values of the copy, as committed records show them."""
    shown = Counter[str]()  # records of each transaction
    for partition, values in source.items():
        copied = copy[partition]
        found.records += len(copied)
        counts = Counter(value for _, value in copied)
        problems = [f"{value} is there {count} times" for value, count in counts.items() if count > 1]
        problems += [f"{value} was not copied" for value in values if value not in counts]
        problems += [f"{value} is not in the source" for value in counts.keys() - set(values)]
        if not problems and [value for _, value in copied] != values:
            problems.append("the copy has another order")
        for key, value in copied:
            shown[key] += 1
            if key.startswith(ABORTED):
                problems.append(f"{value} shows, but its transaction was aborted: {key}")
        for problem in problems:
            found.blame(f"partition {partition}: {problem}")
    for key, count in shown.items():
        found.transactions += 1
        if count != int(key.rpartition(" ")[2]):
            found.blame(f"transaction {key} is torn: {count} records of it show")


class Judge:
    """Looks from outside, as an operator does: with a client that reads committed records, and with `ottla txn`."""

    def __init__(self, bootstrap: str, grpc: str, partitions: int) -> None:
        self._settings = {"bootstrap.servers": bootstrap, "group.id": GROUP, "enable.auto.commit": False}
        self._grpc, self._partitions = grpc, partitions

    def wait_until_copied(self) -> bool:
        """True when the group has committed the source's end on every partition; False when it does not go on."""
        before = -1
        while not self._within(lambda: self._left() == 0):
            left = self._left()
            if 0 <= before <= left:
                return False
            before = left
        return True

    def judge(self) -> Judgement:
        """All of it; the copiers have stopped."""
        found = Judgement()
        if not self._within(self._is_stable):
            for topic, partition, stable, high in self._ends():
                if stable < high:
                    found.blame(f"{topic}-{partition}: the last stable offset {stable} is below the end {high}")
        for one in self._ottla("txn", "list"):
            if not one["state"].startswith(("Complete", "Empty")):
                found.blame(f"{one['transactional_id']}: {one['state']} after all has ended")
        for one in self._ottla("txn", "find-hanging", "--max-age", "0s"):
            found.blame(f"hanging: {one}")
        source = {number: [value for _, value in self._read(SOURCE, number)] for number in range(self._partitions)}
        compare(found, source, {number: self._read(COPY, number) for number in range(self._partitions)})
        return found

    # -- what is asked

    def _within(self, condition: Any) -> bool:
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            try:
                if condition():
                    return True
            except KafkaException:  # unstable offsets among others: asked again
                pass
            time.sleep(0.5)
        return False

    def _left(self) -> int:
        """Offsets of the source that the group has not committed."""
        consumer = Consumer({**self._settings, "isolation.level": "read_committed"})
        try:
            own = [TopicPartition(SOURCE, number) for number in range(self._partitions)]
            return sum(
                consumer.get_watermark_offsets(one, ATTEMPT_S)[1] - max(0, one.offset)
                for one in consumer.committed(own, ATTEMPT_S)
            )
        finally:
            consumer.close()

    def _is_stable(self) -> bool:
        return all(stable == high for _, _, stable, high in self._ends())

    def _ends(self) -> list[tuple[str, int, int, int]]:
        """Topic, partition, last stable offset and high watermark."""
        committed = Consumer({**self._settings, "isolation.level": "read_committed"})
        every = Consumer({**self._settings, "isolation.level": "read_uncommitted"})
        try:
            topics = {COPY: self._partitions, SOURCE: self._partitions}
            topics["__consumer_offsets"] = len(
                every.list_topics("__consumer_offsets", ATTEMPT_S).topics["__consumer_offsets"].partitions
            )
            return [
                (
                    topic,
                    number,
                    committed.get_watermark_offsets(TopicPartition(topic, number), ATTEMPT_S)[1],
                    every.get_watermark_offsets(TopicPartition(topic, number), ATTEMPT_S)[1],
                )
                for topic, count in topics.items()
                for number in range(count)
            ]
        finally:
            committed.close()
            every.close()

    def _read(self, topic: str, partition: int) -> list[tuple[str, str]]:
        """Keys and values of all committed records. Raises KafkaException."""
        consumer = Consumer(
            {
                **self._settings,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
            }
        )
        found: list[tuple[str, str]] = []
        try:
            consumer.assign([TopicPartition(topic, partition, 0)])
            while True:
                message = consumer.poll(30)
                if message is None:
                    raise TimeoutError(f"{topic}-{partition} is not read to its end")
                error = message.error()
                if error is None:
                    found.append(((message.key() or b"").decode(), (message.value() or b"").decode()))
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
                else:
                    raise KafkaException(error)
        finally:
            consumer.close()

    def _ottla(self, *arguments: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "ottla.cli", *arguments, "--json", "--server", self._grpc]
        told: list[dict[str, Any]] = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        return told
