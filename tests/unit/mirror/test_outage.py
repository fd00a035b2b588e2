"""A cluster that is away: one line when it goes and one when it is back, however many wait for it."""

import asyncio
import logging

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.transport import FetchRequest, FetchResult
from ottla.client.types import PartitionDescription, TopicDescription, TopicPartition
from ottla.mirror.config import ClusterConfig
from ottla.mirror.core.outage import Outage, Waiting
from ottla.mirror.core.progress import PROGRESS_TOPIC
from ottla.mirror.engine.bookkeeping import Bookkeeping
from ottla.mirror.engine.outages import Outages
from ottla.mirror.engine.side import Side
from tests.unit.client.fake_cluster import FakeCluster

REFUSED = ClientError(ErrorCode.NETWORK_EXCEPTION, "cannot connect to y:1: refused")


def waiting(index: int, owner: str = "a->b") -> Waiting:
    return Waiting(owner, TopicPartition("t", index))


def test_what_is_said_of_an_outage_counts_who_waits() -> None:
    outage = Outage("b")
    assert outage.failed(waiting(0), REFUSED, 100.0)
    assert not outage.failed(waiting(1), REFUSED, 101.0)
    assert not outage.failed(waiting(1), REFUSED, 102.0)  # as it tries again
    assert not outage.failed(waiting(1, "c->b"), REFUSED, 102.0)
    assert outage.say(103.0) == (
        "b is away (cannot connect to y:1: refused): partitions that wait: 2 of a->b, 1 of c->b"
    )
    assert outage.well(waiting(1, "c->b"), 130.0) is None
    assert outage.say(703.0) == "b is away for 603 s (cannot connect to y:1: refused): partitions that wait: 2 of a->b"
    assert outage.well(waiting(0), 710.0) is None
    assert outage.well(waiting(0), 710.0) is None
    assert outage.well(waiting(1), 711.0) == "b is there again, after 611 s"
    assert outage.say(720.0) is None


def test_what_passes_before_it_was_said_is_not_said() -> None:
    outage = Outage("b")
    assert outage.failed(waiting(0), REFUSED, 100.0)
    assert outage.well(waiting(0), 101.0) is None
    assert outage.say(103.0) is None
    assert outage.failed(waiting(0), REFUSED, 200.0)  # the next one is a first one again


def test_who_stops_waiting_does_not_make_the_cluster_be_there_again() -> None:
    outage = Outage("b")
    outage.failed(waiting(0), REFUSED, 100.0)
    assert outage.say(103.0) is not None
    outage.forget(waiting(0))
    assert outage.well(waiting(0), 104.0) is None


def test_only_what_speaks_of_nodes_is_covered() -> None:
    outage = Outage("b")
    denied = ClientError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    assert not outage.covers(REFUSED)  # nobody has said it yet
    outage.failed(waiting(0), REFUSED, 100.0)
    assert outage.covers(REFUSED)
    assert not outage.covers(denied)


async def test_who_waits_long_tries_again_when_the_cluster_answers_the_first() -> None:
    outages = Outages("b", say_after_s=0.01)
    assert outages.failed(waiting(0), REFUSED)
    assert outages.failed(waiting(1), REFUSED)
    await asyncio.sleep(0.1)  # it is said
    pausing = asyncio.create_task(outages.pause(3600))
    await asyncio.sleep(0)
    assert not pausing.done()
    outages.well(waiting(0))
    try:
        async with asyncio.timeout(30):
            await pausing
    finally:
        outages.close()


class Away(FakeCluster):
    """Refuses fetches while it is away."""

    is_away = False

    async def fetch(self, node_id: int, request: FetchRequest) -> list[FetchResult]:
        if self.is_away:
            raise REFUSED
        return await super().fetch(node_id, request)


class Lines(logging.Handler):
    """What is logged, as it comes."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.queue.put_nowait(record.getMessage())


async def test_a_cluster_that_goes_and_comes_back_is_two_lines_for_sixty_partitions() -> None:
    cluster = Away(**{PROGRESS_TOPIC: 60})
    side = Side(ClusterConfig(alias="b", bootstrap_servers=("y:1",), protocol="kafka"), "test")
    await side.transport.close()
    side.transport = cluster
    side.outages = Outages("b", say_after_s=0.7)  # after several tries of each
    partitions = tuple(
        PartitionDescription(partition=index, leader_id=1, leader_epoch=0, replica_ids=(1,), in_sync_replica_ids=(1,))
        for index in range(60)
    )
    side.topics = {
        PROGRESS_TOPIC: TopicDescription(name=PROGRESS_TOPIC, topic_id="", internal=False, partitions=partitions)
    }
    books, lines = Bookkeeping(side), Lines()
    logger = logging.getLogger("ottla.mirror")
    logger.addHandler(lines)
    try:
        async with asyncio.timeout(60):
            await books.catch_up()
            cluster.is_away = True
            away = await lines.queue.get()
            cluster.is_away = False
            back = await lines.queue.get()
    finally:
        logger.removeHandler(lines)
        await books.close()
        await side.close()
    assert away == f"b is away (cannot connect to y:1: refused): partitions that wait: 60 of {PROGRESS_TOPIC}"
    assert back.startswith("b is there again, after ")
    assert lines.queue.empty()
