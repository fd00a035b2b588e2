"""A copier with librdkafka: its consumer's group gives out partitions, and fences commits of old members (KIP-447)."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from chaos.copiers import TRANSACTION_TIMEOUT_S
from chaos.copying import ABORTS, BATCH, BATCH_S, COPY, GROUP, SOURCE, Stopping, Task, give_up, task

CALL_S = 20.0


class Copier:
    """Takes batches, copies each in a transaction, and aborts some on purpose."""

    def __init__(self, task: Task) -> None:
        self._task = task
        common = {"bootstrap.servers": task.bootstrap, "log_level": 2, "reconnect.backoff.max.ms": 500}
        session = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500} if task.protocol == "classic" else {}
        self._consumer = Consumer(
            {
                **common,
                **session,
                "group.id": GROUP,
                "group.protocol": task.protocol,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            }
        )
        self._producer = Producer(
            {
                **common,
                "transactional.id": f"copier-{task.name}",
                "transaction.timeout.ms": int(TRANSACTION_TIMEOUT_S * 1000),
                "linger.ms": 1,
            }
        )
        self._batch: dict[int, list[Message]] = {}
        self._number = 0

    def run(self, stopping: Stopping) -> None:
        """Copy until told to stop."""
        self._insist(lambda: self._producer.init_transactions(CALL_S))
        self._task.step("began")
        # What is taken away while a batch is gathered is another's now; it will begin where the group's offset is.
        self._consumer.subscribe([SOURCE], on_revoke=self._forget, on_lost=self._forget)
        while not stopping:
            self._gather()
            if self._batch:
                self._copy()
        self._consumer.close()

    def _forget(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._batch.pop(one.partition, None)

    def _gather(self) -> None:
        self._batch.clear()
        until = time.monotonic() + BATCH_S
        # One at a time: a call that takes many may hand out records from before a rebalance that it went through.
        while sum(map(len, self._batch.values())) < BATCH and (left_s := until - time.monotonic()) > 0:
            message = self._consumer.poll(left_s)
            if message is None:
                continue
            error, partition = message.error(), message.partition()
            if error is not None:
                if error.fatal():
                    raise KafkaException(error)
                continue
            assert partition is not None
            self._batch.setdefault(partition, []).append(message)

    def _copy(self) -> None:
        self._number += 1
        abort = self._task.random.random() < ABORTS
        key = self._task.key(self._number, sum(map(len, self._batch.values())), abort=abort)
        try:
            self._producer.begin_transaction()
            for partition, messages in self._batch.items():
                for message in messages:
                    self._producer.produce(COPY, message.value(), key, partition=partition)
            self._producer.poll(0)
            after = [TopicPartition(SOURCE, p, (m[-1].offset() or 0) + 1) for p, m in self._batch.items()]
            group = self._consumer.consumer_group_metadata()
            self._insist(lambda: self._producer.send_offsets_to_transaction(after, group, CALL_S))
            if abort:
                self._producer.flush(CALL_S)
                self._abort("aborted")
            else:
                self._insist(lambda: self._producer.commit_transaction(CALL_S))
                self._task.step("committed")
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            self._task.step(f"refused {_name(error)}")
            self._abort("gave-up")

    def _abort(self, step: str) -> None:
        self._insist(lambda: self._producer.abort_transaction(CALL_S))
        self._task.step(step)
        for partition, messages in self._batch.items():
            self._consumer.seek(TopicPartition(SOURCE, partition, messages[0].offset() or 0))

    @staticmethod
    def _insist(call: Callable[[], object]) -> None:
        """Again while the library says that it may succeed."""
        until = time.monotonic() + 120
        while True:
            try:
                call()
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > until:
                    raise
            else:
                return


def _name(error: KafkaException) -> str:
    cause: KafkaError = error.args[0]
    return str(cause.name())


def main() -> None:
    """The process."""
    own = task()
    try:
        Copier(own).run(Stopping())
    except KafkaException as error:
        give_up(own, error, _name(error))


if __name__ == "__main__":
    main()
