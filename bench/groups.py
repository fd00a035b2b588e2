"""Consumer groups: how long a rebalance takes, how many offsets are committed, how long a coordinator is missed.

A group is settled when all partitions are given out and every member has its share. Members are librdkafka consumers in
a few processes of their own (`bench.group_members`), with the client's own intervals but for the session: what a user
waits for. A killed member is missed for its session time-out by either peer; that is a part of `kill_s`.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Self

from bench.cluster import Cluster
from bench.committing import Connection, connect, find_coordinator, measure_commits
from bench.quantiles import quantile

MEMBERS = 50
PARTITIONS = 100
PROCESSES = 5
SESSION_TIMEOUT_MS = 10_000
SETTINGS = (f"group.consumer.session.timeout.ms={SESSION_TIMEOUT_MS}",)
KAFKA_SETTINGS = (*SETTINGS, f"group.consumer.min.session.timeout.ms={SESSION_TIMEOUT_MS}")
"""Of the nodes: with `group.protocol=consumer` the session is theirs."""
SETTLES_S = 120.0
FAILOVER_S = 60.0
ANSWER_S = 1.0

Measure = Callable[[Cluster, float], dict[str, float]]

PROTOCOLS = {
    "classic": {"session.timeout.ms": str(SESSION_TIMEOUT_MS), "partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}


class Members:
    """Some members in a process, and what each of them has."""

    def __init__(self, cluster: Cluster, group: str, topic: str, count: int, settings: dict[str, str]) -> None:
        command = [sys.executable, "-m", "bench.group_members", cluster.bootstrap, group, topic, str(count)]
        command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        self.shares = [0] * count
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._begun = b""

    def read(self) -> None:
        """What has been said meanwhile; there must be something."""
        assert self.process.stdout is not None
        piece = os.read(self.process.stdout.fileno(), 1 << 16)
        if not piece:
            raise RuntimeError("a process of members ended")
        *lines, self._begun = (self._begun + piece).split(b"\n")
        if lines:
            self.shares = json.loads(lines[-1])

    def leave(self) -> None:
        """Begin to leave; `end` waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.leave()
        self.end()


class Group:
    """All members; `settle` answers how long it took."""

    def __init__(self, cluster: Cluster, protocol: str) -> None:
        self._cluster, self._settings = cluster, PROTOCOLS[protocol]
        self._name, self._topic = f"bench-{uuid.uuid4().hex[:8]}", cluster.new_topic(PARTITIONS)
        self.running: list[Members] = []

    def start(self) -> None:
        """All members; one of them is alone in its process, the last, so that it can be killed."""
        each = (MEMBERS - 1) // (PROCESSES - 1)
        counts = [each] * (PROCESSES - 2) + [MEMBERS - 1 - each * (PROCESSES - 2), 1]
        self.running = [Members(self._cluster, self._name, self._topic, n, self._settings) for n in counts]

    def settle(self) -> float:
        start, deadline = time.monotonic(), time.monotonic() + SETTLES_S
        with selectors.DefaultSelector() as selector:
            for one in self.running:
                assert one.process.stdout is not None
                selector.register(one.process.stdout, selectors.EVENT_READ, one)
            while not self._is_settled():
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{self._cluster.name}: {[one.shares for one in self.running]} after {SETTLES_S} s"
                    )
                for key, _ in selector.select(1):
                    key.data.read()
        return time.monotonic() - start

    def _is_settled(self) -> bool:
        shares = [share for one in self.running for share in one.shares]
        return sum(shares) == PARTITIONS and max(shares) - min(shares) <= 1

    def kill_one(self) -> None:
        self.running.pop().kill()

    def stop(self) -> None:
        """All leave."""
        for one in self.running:
            one.leave()
        for one in self.running:
            one.end()
        self.running = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.running:
            one.kill()


def rebalance(protocol: str) -> Measure:
    """Fifty members join; one is killed; all leave and join again."""

    def measure(cluster: Cluster, seconds: float) -> dict[str, float]:
        with Group(cluster, protocol) as group:
            group.start()
            joined_s = group.settle()
            cpu_s = cluster.cpu_s()
            group.kill_one()
            killed_s = group.settle()
            start = time.monotonic()
            group.stop()
            group.start()
            group.settle()
            restarted_s = time.monotonic() - start
            cpu_s = cluster.cpu_s() - cpu_s
        return {"join_s": joined_s, "kill_s": killed_s, "restart_s": restarted_s, "cpu_s": cpu_s}

    return measure


def commits(connections: int, in_flight: int) -> Measure:
    """Offsets of one partition a request, each connection with a group of its own."""

    def measure(cluster: Cluster, seconds: float) -> dict[str, float]:
        found = measure_commits(cluster, connections, in_flight, seconds)
        return {
            "commits_per_s": found.count / found.took_s,
            "cpu_us_per_commit": found.cpu_s / found.count * 1e6,
            "p50_ms": quantile(found.waited_s, 0.5) * 1e3,
            "p99_ms": quantile(found.waited_s, 0.99) * 1e3,
        }

    return measure


def failover(cluster: Cluster, seconds: float) -> dict[str, float]:
    """From the last commit before the coordinator is killed to the first one after. The node does not come back."""
    if len(cluster.pids) < 3:
        return {}  # nobody would take over
    group, topic = f"bench-{uuid.uuid4().hex[:8]}", cluster.new_topic(1)
    with closing(connect(cluster.bootstrap, group, topic)):
        found = find_coordinator(cluster.bootstrap, group)
        assert found is not None
        os.kill(cluster.pids.pop(found[0] - 1), signal.SIGKILL)
        start = time.monotonic()
    while not _commits(cluster, group, topic):
        if time.monotonic() - start > FAILOVER_S:
            raise TimeoutError(f"{cluster.name}: no commit {FAILOVER_S} s after its coordinator died")
        time.sleep(0.01)
    return {"gap_s": time.monotonic() - start}


def _commits(cluster: Cluster, group: str, topic: str) -> bool:
    found = find_coordinator(cluster.bootstrap, group, timeout_s=ANSWER_S)
    if found is None:
        return False
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(Connection(found[1], group, topic, timeout_s=ANSWER_S)))
            connection.send(1)
            connection.receive(blocking=True)
        except OSError:
            return False
        return not connection.errors


GROUP_MEASURES: dict[str, Measure] = {
    "offset commits, one client": commits(1, 100),
    "offset commits, 20 clients": commits(20, 5),
    "offset commits, 100 clients": commits(100, 1),
    "rebalance, classic, 50 members": rebalance("classic"),
    "rebalance, consumer, 50 members": rebalance("consumer"),
    "a coordinator dies": failover,
}
