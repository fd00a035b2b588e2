"""A running cluster under measurement, whoever made it, and what it costs: processor seconds and memory."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench import costs


@dataclass(kw_only=True)
class Cluster:
    """What the measures need to know of a cluster. `configs` are given to every topic that they create."""

    name: str
    bootstrap: str
    pids: list[int]
    replication_factor: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)
    grpc: str = ""  # the gRPC doors of an Ottla cluster

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def new_topic(self, partitions: int = 6, *, timeout_s: float = 180) -> str:
        """Create a topic and wait until each partition has a leader."""
        admin, name = self.admin(), f"bench-{uuid.uuid4().hex[:8]}"
        new = NewTopic(name, partitions, self.replication_factor, config=dict(self.configs))
        admin.create_topics([new], operation_timeout=120)[name].result(timeout_s)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = admin.list_topics(name, timeout=60).topics[name].partitions
            if len(found) == partitions and all(p.leader >= 0 for p in found.values()):
                return name
            time.sleep(0.02)
        raise TimeoutError(f"{self.name}: {name} still lacks leaders after {timeout_s} s")

    def delete_topic(self, name: str) -> None:
        """Free the disk for the measure that follows."""
        admin = self.admin()  # a client that is collected while it waits ends its requests
        admin.delete_topics([name], operation_timeout=60)[name].result(120)

    def producer(self, **settings: object) -> Producer:
        """acks=all and idempotent, with a little linger; its queue is long enough to keep the cluster busy."""
        usual = {
            "bootstrap.servers": self.bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.kbytes": 65_536,
        }
        return Producer(usual | settings)

    def consumer(self, **settings: object) -> Consumer:
        usual = {
            "bootstrap.servers": self.bootstrap,
            "group.id": f"bench-{uuid.uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        return Consumer(usual | settings)

    def cpu_s(self) -> float:
        """User and system time of all the cluster's processes so far."""
        return sum(map(costs.cpu_s, self.pids))

    def memory_mib(self) -> float:
        """Proportional set size, the mean of the nodes."""
        return sum(map(costs.pss_mib, self.pids)) / len(self.pids)
