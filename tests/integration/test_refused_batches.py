"""librdkafka whose batches are refused now and then while others are under way: it must not raise its epoch.

When it does, it numbers anew what it has for all partitions, also what was appended and not answered.
"""

import logging
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer

from ottla.client.sync import Consumer
from ottla.client.types import TopicPartition
from ottla.testing.cluster import Cluster

COUNT = 1500
FLUSH_S = 60


class Heard(logging.Handler):
    """What librdkafka logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_librdkafka_sends_again_in_order_under_the_same_epoch(tmp_path: Path) -> None:
    launch = ["--launch", f"{sys.executable} -m tests.integration.refusing_node"]
    heard, logger = Heard(), logging.Logger("librdkafka", logging.DEBUG)
    logger.addHandler(heard)
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    with Cluster(tmp_path, nodes=1, arguments=launch) as cluster:
        own = {"enable.idempotence": True, "linger.ms": 0, "batch.num.messages": 1, "debug": "eos,msg"}
        producer = Producer({"bootstrap.servers": cluster.bootstrap, **own}, logger=logger)
        for number in range(COUNT):
            producer.produce("refused", str(number), partition=0, on_delivery=delivered)
            producer.poll(0)
            if number % 20 == 0:
                time.sleep(0.002)  # so that several requests are under way, and not one large queue
        assert producer.flush(FLUSH_S) == 0
        producer.poll(0.1)
        assert not failed
        assert sum("Not enough in-sync replicas" in line for line in heard.lines) > COUNT // 40, "nothing was refused"
        assert not [line for line in heard.lines if "bumped epoch" in line or "skipped sequence" in line]
        with Consumer(bootstrap_servers=cluster.grpc, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition("refused", 0)])
            read: list[int] = []
            until = time.monotonic() + FLUSH_S
            while len(read) < COUNT and time.monotonic() < until:
                for records in consumer.poll(500).values():
                    read += [int(one.value or b"") for one in records]
    assert read == list(range(COUNT))
