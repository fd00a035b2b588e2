"""What a node holds when millions of producers come, write once and go: `python -m bench.micro.node_producers`.

Each producer id writes one batch of one record to one of the partitions. Printed as it goes: how many ids there were,
the node's memory, its processor time for each. Then InitProducerId is asked for new ids, which a node that remembers
`ottla.broker.producer_ids.PRODUCERS_AT_MOST` hands out slowly; then `producer.id.expiration.ms` is made short, and
the node forgets them, some thousands a second. Ten million take 1 GB of disk, and some minutes.
"""

import argparse
import socket
import struct
import time
import urllib.request

from crc32c import crc32c

from bench.cluster import Cluster
from bench.micro.door import Client
from bench.peers import ottla
from ottla.protocol.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.protocol.messages.init_producer_id_request import InitProducerIdRequest
from ottla.protocol.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import Record, encode_batch

PARTITIONS = 100
IN_FLIGHT = 5
PRODUCE_VERSION, INIT_VERSION, ALTER_VERSION = 8, 3, 1
BROKER, SET = 4, 0
HOUSEKEEPING_MS = 2_000
NEW_IDS = 5
FORGETTING_S = 60.0
FIRST_ID = 1 << 40
"""Far from those that the controller hands out."""
CRC_AT, CHECKED_FROM, PRODUCER_ID_AT = 17, 21, 43
"""Bytes of a batch."""


class Requests:
    """One Produce request with a batch for every partition, made again and again for other producers."""

    def __init__(self, client: Client, topic: str) -> None:
        batch = encode_batch(
            [Record(0, time.time_ns() // 1_000_000, None, b"x", ())], producer_id=0, producer_epoch=0, base_sequence=0
        )
        data = [PartitionProduceData(index=index, records=batch) for index in range(PARTITIONS)]
        request = ProduceRequest(
            acks=-1, timeout_ms=60_000, topic_data=[TopicProduceData(name=topic, partition_data=data)]
        )
        self._frame = bytearray(client.frame(request, PRODUCE_VERSION))
        self._places, self._size = [], len(batch)
        at = self._frame.find(batch)
        while at >= 0:
            self._places.append(at)
            at = self._frame.find(batch, at + len(batch))
        assert len(self._places) == PARTITIONS

    def next(self, first_id: int) -> bytes:
        """For the producers from `first_id` on, one for each partition."""
        frame = self._frame
        for n, at in enumerate(self._places):
            struct.pack_into(">q", frame, at + PRODUCER_ID_AT, first_id + n)
            checked = memoryview(frame)[at + CHECKED_FROM : at + self._size]
            struct.pack_into(">I", frame, at + CRC_AT, crc32c(checked))
        return bytes(frame)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro.node_producers", description=__doc__)
    parser.add_argument("--producers", type=int, default=10_000_000)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        figures = f"localhost:{free.getsockname()[1]}"
    with ottla(settings=(f"http_listener={figures}", f"log.retention.check.interval.ms={HOUSEKEEPING_MS}")) as started:
        cluster = started.cluster
        host, _, port = cluster.bootstrap.rpartition(":")
        client = Client(host, int(port))
        _come_and_go(cluster, client, options.producers)
        _ask_for_ids(client)
        _forget(cluster, client, figures)


def _come_and_go(cluster: Cluster, client: Client, producers: int) -> None:
    requests = Requests(client, cluster.new_topic(PARTITIONS))
    print(f"{'producers':>12} {'MiB':>8} {'bytes each':>11} {'µs CPU each':>12}")
    empty_mib, cpu_s = cluster.memory_mib(), cluster.cpu_s()
    print(f"{0:12,} {empty_mib:8.0f}", flush=True)
    sent = answered = 0
    step = max(producers // 10, PARTITIONS)
    told = step
    while answered * PARTITIONS < producers:
        while sent - answered < IN_FLIGHT and sent * PARTITIONS < producers:
            client.send(requests.next(FIRST_ID + sent * PARTITIONS))
            sent += 1
        answered += client.answers()
        count = answered * PARTITIONS
        if count >= told:
            mib = cluster.memory_mib()
            each = (mib - empty_mib) * (1 << 20) / count
            cpu_us = (cluster.cpu_s() - cpu_s) / count * 1e6
            print(f"{count:12,} {mib:8.0f} {each:11.0f} {cpu_us:12.1f}", flush=True)
            told += step


def _ask_for_ids(client: Client) -> None:
    frame = client.frame(InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000), INIT_VERSION)
    started = time.monotonic()
    for _ in range(NEW_IDS):
        client.call(frame)
    print(f"a new producer id takes {(time.monotonic() - started) / NEW_IDS * 1e3:.1f} ms")


def _forget(cluster: Cluster, client: Client, figures: str) -> None:
    """How many are left, for a minute or until there is none."""
    change = AlterableConfig(name="producer.id.expiration.ms", config_operation=SET, value="1000")
    everywhere = AlterConfigsResource(resource_type=BROKER, resource_name="", configs=[change])
    client.call(client.frame(IncrementalAlterConfigsRequest(resources=[everywhere]), ALTER_VERSION))
    started = time.monotonic()
    while (left := _remembered(figures)) and time.monotonic() - started < FORGETTING_S:
        time.sleep(1)
    print(f"after {time.monotonic() - started:.0f} s of expiry {left:,} are left, {cluster.memory_mib():.0f} MiB")


def _remembered(figures: str) -> int:
    with urllib.request.urlopen(f"http://{figures}/metrics", timeout=60) as answer:
        (line,) = (line for line in answer.read().decode().splitlines() if line.startswith("ottla_producers "))
    return int(float(line.split()[1]))


if __name__ == "__main__":
    main()
