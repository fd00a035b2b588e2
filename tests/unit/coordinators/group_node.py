"""A node that coordinates groups, for tests: it starts, crashes and lets time pass."""

import random
from typing import Any

from ottla.coordinators.groups.config import GroupConfig
from ottla.coordinators.groups.joining import Caller
from ottla.coordinators.groups.service import GroupCoordinator
from ottla.testing.sim.clock import SimClock
from tests.unit.coordinators.coordinator_fakes import FakeTopics, FakeVerifier, quiet
from tests.unit.coordinators.fake_log import FakeLog


class GroupNode:
    """A node with the one partition of the internal topic, which `Cluster` asks as clients do."""

    def __init__(self, *, auto_commit: bool = True, session_timeout_ms: int = 10_000, **config: Any) -> None:
        self.clock = SimClock()
        self.log = FakeLog(self.clock, auto_commit=auto_commit)
        self.topics = FakeTopics()
        self.config = GroupConfig(**{"group_initial_rebalance_delay_ms": 0, **config})
        self.session_timeout_ms = session_timeout_ms
        self.verifier = FakeVerifier(self.clock)
        self.connection = 0
        """On which the next calls come."""
        self.reported: list[tuple[str, dict[str, Any]]] = []
        self.epoch = 0
        self.coordinator = self._start()
        self.run()

    def _start(self) -> GroupCoordinator:
        coordinator = GroupCoordinator(
            config=self.config,
            clock=self.clock,
            random=random.Random(7 + self.epoch),
            topics=self.topics,
            report=self._report,
            verifier=self.verifier,
        )
        coordinator.lead(0, self.log, self.epoch)
        return coordinator

    def _report(self, event: str, **fields: Any) -> None:
        quiet(event, **fields)
        self.reported.append((event, fields))

    def _caller(self, version: int, client: str = "client") -> Caller:
        return Caller(client, "/127.0.0.1", version, self.connection)

    def close(self, connection: int) -> None:
        """The client's connection is no more."""
        self.coordinator.connection_closed(connection)
        self.run()

    def restart(self) -> None:
        """A crash of the process: only the log is left."""
        self.clock.forget_all()
        self.log = self._copy_log()
        self.epoch += 1
        self.coordinator = self._start()
        self.run()

    def _copy_log(self) -> FakeLog:
        log = FakeLog(self.clock, auto_commit=True)
        log.batches = list(self.log.batches)
        log.log_end_offset = log.high_watermark = self.log.log_end_offset
        log.producers = self.log.producers
        return log

    def run(self, duration_ms: float = 0) -> None:
        self.clock.run_for(duration_ms)

    def group(self, group: str = "g") -> Any:
        (shard,) = self.coordinator.runtime.active_shards()
        return shard.groups[group]

    def generation(self, group: str = "g") -> int:
        generation: int = self.group(group).generation_id
        return generation
