"""Reads committed records of one partition: from its leader, or from another replica."""

from typing import Any, Final

from ottla.broker.fetch_messages import FetchPartition, FetchRequest, FetchResponse
from ottla.controller.image import NO_LEADER
from ottla.core.types import Uuid
from ottla.partitions.results import Isolation
from tests.sim.cluster.calls import Reply, Unanswered, Unreached
from tests.sim.cluster.clients import REQUEST_S, Client
from tests.sim.cluster.host import Host, Process
from tests.sim.cluster.transactions.committed import committed_records
from tests.sim.cluster.transactions.history import History, Partition, Read, Seen

BYTES: Final = 40_000


async def read_committed(
    client: Client, host: Host, topic_id: Uuid, index: int, position: int, *, epoch: int, rack: str | None
) -> tuple[int, list[Seen]] | None:
    """Where it ends, and the records; None for an error. Raises Unanswered and Unreached."""

    def begin(process: Process, reply: Reply) -> None:
        def done(response: FetchResponse) -> None:
            (fetched,) = response.partitions
            if fetched.error:
                reply(None)
            else:
                reply(committed_records(b"".join(fetched.buffers), position, fetched.aborted or ()))

        request = FetchRequest(
            partitions=[FetchPartition(topic_id, index, position, BYTES, epoch)],
            max_wait_ms=100, min_bytes=1, rack=rack, isolation=Isolation.READ_COMMITTED,
        )  # fmt: skip
        process.broker.fetch(request, done)

    found: tuple[int, list[Seen]] | None = await client.calls.call(host, begin, within_s=REQUEST_S)
    return found


class Reader(Client):
    """Goes through one partition, now and then again from its beginning; what it is given goes into the history."""

    def __init__(self, *arguments: Any, history: History, partition: Partition) -> None:
        super().__init__(*arguments)
        self.history, self.place = history, partition
        self.position = 0

    async def run(self) -> None:
        while not self.stopped:
            if not await self._read():
                self.forget()
                await self.pause(0.05)

    async def _read(self) -> bool:
        """Whether there was something."""
        topic, index = self.place
        known = await self.partition(topic, index)
        if known is None:
            return False
        topic_id, partition = known
        anywhere = self.random.random() < 0.3
        node = self.random.choice(partition.replicas) if anywhere else partition.leader
        if node == NO_LEADER:
            return False
        host = self.hosts[node - 1]
        try:
            found = await read_committed(
                self, host, topic_id, index, self.position, epoch=partition.leader_epoch, rack="" if anywhere else None
            )
        except (Unanswered, Unreached):
            return False
        if found is None:
            return False
        end, records = found
        moved = end > self.position
        if moved:
            self.history.reads.append(Read(self.name, node, self.place, self.position, end, tuple(records)))
        self.position = end
        if not moved and self.random.random() < 0.1:
            self.position = 0
        return moved
