"""The door on live sockets: order, back-pressure, limits, refusals. On uvloop, as a node runs it."""

import asyncio
import gc
import struct
import warnings
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from ottla.broker.fetch_messages import FetchedPartition, FetchResponse
from ottla.core.errors import ApiError, ErrorCode
from ottla.kafka.connection import MAX_UNANSWERED
from ottla.kafka.door import Limits
from ottla.protocol.apis import VERSIONS, ApiKey
from ottla.protocol.messages.api_versions_request import ApiVersionsRequest
from ottla.protocol.messages.create_topics_request import CreateTopicsRequest
from ottla.protocol.messages.fetch_request import FetchRequest
from ottla.protocol.messages.find_coordinator_request import FindCoordinatorRequest
from ottla.protocol.messages.heartbeat_request import HeartbeatRequest
from ottla.protocol.messages.heartbeat_response import HeartbeatResponse
from ottla.protocol.messages.offset_commit_request import OffsetCommitRequest
from ottla.protocol.messages.offset_commit_response import OffsetCommitResponse
from ottla.protocol.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.unit.kafka.door_rig import Client, serve, until

pytestmark = pytest.mark.interpreted  # the broker is another one

Scenario = Callable[[], Awaitable[None]]


def on_uvloop(scenario: Scenario) -> Callable[[], None]:
    @wraps(scenario)
    def run() -> None:
        async def main() -> None:
            await scenario()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    return run


def produce(topic: str = "t", records: bytes = b"batch", acks: int = -1) -> ProduceRequest:
    partition = PartitionProduceData(index=0, records=records)
    return ProduceRequest(
        acks=acks, timeout_ms=1000, topic_data=[TopicProduceData(name=topic, partition_data=[partition])]
    )


@on_uvloop
async def test_answers_come_in_the_order_of_the_requests() -> None:
    async with serve() as served:
        client = await served.connect()
        sent = [client.send(produce(), 9) for _ in range(10)]
        await until(lambda: len(served.broker.produced) == 10)
        for n in (3, 9, 1, 0, 2, 8, 4, 5, 7, 6):
            served.broker.acknowledge(n, base_offset=n)
        for n, correlation_id in enumerate(sent):
            got, response = await client.receive(ApiKey.PRODUCE, 9)
            assert (got, response.responses[0].partition_responses[0].base_offset) == (correlation_id, n)


@on_uvloop
async def test_batches_arrive_as_writable_views() -> None:
    async with serve() as served:
        client = await served.connect()
        for size in (10, 60_000, 70_000, 3_000_000):
            client.send(produce(records=bytes(size)), 9)
        await until(lambda: len(served.broker.produced) == 4)
        views = [request.topics[0][1][0][1] for request, _ in served.broker.produced]
        assert [view and len(view) for view in views] == [10, 60_000, 70_000, 3_000_000]
        for view in views:
            assert view is not None
            assert not view.readonly
            assert not any(view)


@on_uvloop
async def test_acks_0_gets_no_answer() -> None:
    async with serve() as served:
        client = await served.connect()
        client.send(produce(acks=0), 9)
        asked = client.send(ApiVersionsRequest(), 3)
        await until(lambda: len(served.broker.produced) == 1)
        served.broker.acknowledge(0)
        assert (await client.receive(ApiKey.API_VERSIONS, 3))[0] == asked


@on_uvloop
async def test_a_refused_batch_with_acks_0_ends_the_connection() -> None:
    async with serve() as served:
        client = await served.connect()
        client.send(produce(acks=0), 9)
        await until(lambda: len(served.broker.produced) == 1)
        with capture_logs() as logs:
            served.broker.acknowledge(0, error=ErrorCode.MESSAGE_TOO_LARGE)
            assert await client.ended() == b""
        assert ["MESSAGE_TOO_LARGE" in line["reason"] for line in logs] == [True]


@on_uvloop
async def test_a_waiting_fetch_holds_up_what_is_behind_it() -> None:
    async with serve() as served:
        client = await served.connect()
        first = client.send(FetchRequest(), 12)
        second = client.send(produce(), 9)
        await until(lambda: len(served.broker.fetches) == 1)
        await asyncio.sleep(0.02)
        assert served.broker.produced == []
        partition = FetchedPartition("t", 0)
        partition.buffers, partition.size = [b"x" * 100_000, memoryview(b"y")], 100_001
        served.broker.fetches[0][1].done(FetchResponse([partition]))
        correlation_id, response = await client.receive(ApiKey.FETCH, 12)
        assert correlation_id == first
        assert bytes(response.responses[0].partitions[0].records) == b"x" * 100_000 + b"y"
        await until(lambda: len(served.broker.produced) == 1)
        served.broker.acknowledge(0)
        assert (await client.receive(ApiKey.PRODUCE, 9))[0] == second


@on_uvloop
async def test_commits_of_offsets_do_not_wait_for_each_other_and_are_answered_in_order() -> None:
    async with serve() as served:
        client = await served.connect()
        sent = [client.send(OffsetCommitRequest(group_id=f"g{n}"), 8) for n in range(3)]
        await until(lambda: len(served.broker.taken) == 3)
        assert [request.group_id for request, _ in served.broker.taken] == ["g0", "g1", "g2"]
        for _, done in reversed(served.broker.taken):
            done(OffsetCommitResponse())
        assert [(await client.receive(ApiKey.OFFSET_COMMIT, 8))[0] for _ in sent] == sent


@on_uvloop
async def test_a_lost_client_cancels_its_fetch_and_its_task() -> None:
    async with serve() as served:
        cancelled = asyncio.Event()

        async def for_ever(_: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        served.broker.handlers[ApiKey.HEARTBEAT] = for_ever
        fetching, waiting = await served.connect(), await served.connect()
        fetching.send(FetchRequest(), 12)
        waiting.send(HeartbeatRequest(group_id="g", member_id="m"), 4)
        await until(lambda: len(served.broker.fetches) == 1 and len(served.broker.contexts) == 1)
        await fetching.close()
        await waiting.close()
        await until(lambda: served.broker.fetches[0][1].cancelled and cancelled.is_set())
        await until(lambda: not served.door.connections)


@on_uvloop
async def test_a_request_whose_client_is_lost_before_it_begins_leaves_nothing_behind() -> None:
    async with serve() as served:
        served_groups: list[str] = []

        async def lose_the_client(request: Any) -> HeartbeatResponse:
            served_groups.append(request.group_id)
            for connection in served.door.connections:
                connection.abort()
            return HeartbeatResponse()

        served.broker.handlers[ApiKey.HEARTBEAT] = lose_the_client
        client = await served.connect()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            client.send(HeartbeatRequest(group_id="first", member_id="m"), 4)
            client.send(HeartbeatRequest(group_id="second", member_id="m"), 4)
            await until(lambda: not served.door.connections)
            gc.collect()
        assert served_groups == ["first"]
        assert [str(warning.message) for warning in warned] == []


@on_uvloop
async def test_broker_is_told_of_connections_that_close_but_not_of_those_that_it_closes_to_stop() -> None:
    async with serve() as served:
        client = await served.connect()
        await served.connect()
        await until(lambda: len(served.door.connections) == 2)
        await client.close()
        await until(lambda: served.broker.closed == [1])
        await served.door.stop()
        assert not served.door.connections
        assert served.broker.closed == [1]


async def test_other_requests_are_served_one_after_the_other() -> None:
    async with serve() as served:
        running: list[str] = []
        gate = asyncio.Event()

        async def heartbeat(request: Any) -> HeartbeatResponse:
            running.append(request.group_id)
            if request.group_id == "slow":
                await gate.wait()
            return HeartbeatResponse(error_code=len(running))

        served.broker.handlers[ApiKey.HEARTBEAT] = heartbeat
        client = await served.connect()
        for group in ("slow", "next"):
            client.send(HeartbeatRequest(group_id=group, member_id="m"), 4)
        await until(lambda: running == ["slow"])
        await asyncio.sleep(0.02)
        assert running == ["slow"]
        gate.set()
        assert [(await client.receive(ApiKey.HEARTBEAT, 4))[1].error_code for _ in range(2)] == [1, 2]
        [context] = {id(context): context for context in served.broker.contexts}.values()
        assert (context.client_id, context.listener, context.api_version) == ("me", "PLAINTEXT", 4)
        assert context.peer_host == "127.0.0.1"


@on_uvloop
async def test_api_versions_tells_what_is_served() -> None:
    async with serve() as served:
        client = await served.connect()
        client.send(ApiVersionsRequest(client_software_name="x", client_software_version="1"), 4)
        _, response = await client.receive(ApiKey.API_VERSIONS, 4)
        versions = {key.api_key: (key.min_version, key.max_version) for key in response.api_keys}
        assert versions[ApiKey.PRODUCE] == (0, VERSIONS[ApiKey.PRODUCE][1])
        assert versions[ApiKey.FETCH] == VERSIONS[ApiKey.FETCH][:2]
        assert versions[ApiKey.INIT_PRODUCER_ID] == (0, 5)
        assert ApiKey.VOTE not in versions
        assert response.finalized_features_epoch == 7
        assert [(f.name, f.max_version_level) for f in response.finalized_features] == [("metadata.version", 25)]


@pytest.mark.parametrize("version", [5, 100, -1, 32767])
def test_an_unknown_api_versions_version_is_answered_in_version_0(version: int) -> None:
    @on_uvloop
    async def scenario() -> None:
        async with serve() as served:
            client = await served.connect()
            body = struct.pack(">hhih", ApiKey.API_VERSIONS, version, 42, -1) + b"\xff garbage"
            client.writer.write(struct.pack(">i", len(body)) + body)
            correlation_id, response = await client.receive(ApiKey.API_VERSIONS, 0)
            assert (correlation_id, response.error_code) == (42, ErrorCode.UNSUPPORTED_VERSION)
            assert [(k.api_key, k.min_version, k.max_version) for k in response.api_keys] == [(18, 0, 4)]
            client.send(ApiVersionsRequest(), 0)
            assert (await client.receive(ApiKey.API_VERSIONS, 0))[1].error_code == 0

    scenario()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (struct.pack(">hhih", 999, 0, 1, -1), "unknown type 999"),
        (struct.pack(">hhih", -1, 0, 1, -1), "unknown type -1"),
        (struct.pack(">hhih", ApiKey.PRODUCE, 2, 1, -1) + bytes(20), "PRODUCE version 2"),
        (struct.pack(">hhih", ApiKey.PRODUCE, 99, 1, -1) + bytes(20), "PRODUCE version 99"),
        (struct.pack(">hhih", ApiKey.FETCH, 3, 1, -1) + bytes(20), "FETCH version 3"),
        (struct.pack(">hhih", ApiKey.VOTE, 0, 1, -1) + bytes(20), "VOTE version 0"),
        (struct.pack(">hhih", ApiKey.PRODUCE, 9, 1, 500) + bytes(20), "client id"),
        (struct.pack(">hhih", ApiKey.PRODUCE, 9, 1, -1) + b"\x00", "ProduceRequest version 9"),
        (struct.pack(">hhih", ApiKey.FETCH, 12, 1, -1) + b"\x00" * 5, "FetchRequest version 12"),
        (struct.pack(">hhih", ApiKey.METADATA, 12, 1, -1) + b"\xff\xff\xff\xff\xff\xff", "header"),
        (struct.pack(">hhih", ApiKey.METADATA, 1, 1, -1) + b"\x7f\xff\xff\xff", "METADATA version 1"),
    ],
)
def test_what_cannot_be_served_ends_the_connection_with_one_line(body: bytes, reason: str) -> None:
    @on_uvloop
    async def scenario() -> None:
        async with serve() as served:
            other, client = await served.connect(), await served.connect()
            with capture_logs() as logs:
                client.writer.write(struct.pack(">i", len(body)) + body * 3)
                assert await client.ended() == b""
            assert [(line["log_level"], reason in line["reason"]) for line in logs] == [("warning", True)], logs
            other.send(ApiVersionsRequest(), 0)
            assert (await other.receive(ApiKey.API_VERSIONS, 0))[1].error_code == 0

    scenario()


@on_uvloop
async def test_what_was_asked_before_the_bad_frame_is_answered() -> None:
    async with serve() as served:
        client = await served.connect()
        asked = client.send(produce(), 9)
        client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: len(served.broker.produced) == 1)
        served.broker.acknowledge(0)
        assert (await client.receive(ApiKey.PRODUCE, 9))[0] == asked
        assert await client.ended() == b""


@on_uvloop
async def test_bytes_behind_a_request_are_ignored_and_a_repeated_frame_is_served_again() -> None:
    async with serve() as served:
        client = await served.connect()
        frame = client.frame(ApiVersionsRequest(), 0)[4:] + b"trailing"
        client.writer.write((struct.pack(">i", len(frame)) + frame) * 2)
        for _ in range(2):
            assert await client.receive(ApiKey.API_VERSIONS, 0)


@on_uvloop
async def test_errors_of_handlers_become_answers_where_the_protocol_has_a_place_for_them() -> None:
    async with serve() as served:

        async def refuse(_: Any) -> None:
            raise ApiError(ErrorCode.NOT_CONTROLLER, "elsewhere")

        async def fail(_: Any) -> None:
            raise ZeroDivisionError

        served.broker.handlers[ApiKey.FIND_COORDINATOR] = refuse
        served.broker.handlers[ApiKey.HEARTBEAT] = fail
        served.broker.handlers[ApiKey.CREATE_TOPICS] = fail
        client = await served.connect()
        client.send(FindCoordinatorRequest(key="g"), 3)
        _, response = await client.receive(ApiKey.FIND_COORDINATOR, 3)
        assert (response.error_code, response.error_message) == (ErrorCode.NOT_CONTROLLER, "elsewhere")
        with capture_logs() as logs:
            client.send(HeartbeatRequest(group_id="g", member_id="m"), 4)
            _, response = await client.receive(ApiKey.HEARTBEAT, 4)
            assert response.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        assert [line["event"] for line in logs] == ["request failed"]
        with capture_logs() as logs:
            client.send(CreateTopicsRequest(), 7)
            assert await client.ended() == b""
        assert [line["event"] for line in logs] == ["request failed"]


@on_uvloop
async def test_too_many_unanswered_requests_stop_the_reading() -> None:
    async with serve() as served:
        client = await served.connect()
        frames = b"".join(client.frame(produce(), 9) for _ in range(MAX_UNANSWERED + 500))
        client.writer.write(frames)
        await until(lambda: len(served.broker.produced) == MAX_UNANSWERED)
        await asyncio.sleep(0.05)
        assert len(served.broker.produced) == MAX_UNANSWERED
        for n in range(100):
            served.broker.acknowledge(n)
        await until(lambda: len(served.broker.produced) == MAX_UNANSWERED + 100)
        for n in range(100, MAX_UNANSWERED + 500):
            await until(lambda n=n: len(served.broker.produced) > n)  # type: ignore[misc]
            served.broker.acknowledge(n)
        for n in range(MAX_UNANSWERED + 500):
            assert (await client.receive(ApiKey.PRODUCE, 9))[0] == n + 1


@on_uvloop
async def test_too_many_unanswered_bytes_stop_the_reading() -> None:
    async with serve() as served:
        client = await served.connect()
        for _ in range(20):
            client.send(produce(records=bytes(4 << 20)), 9)
        await until(lambda: len(served.broker.produced) == 8)
        await asyncio.sleep(0.05)
        assert len(served.broker.produced) == 8
        for n in range(20):
            await until(lambda n=n: len(served.broker.produced) > n)  # type: ignore[misc]
            served.broker.acknowledge(n)
        for n in range(20):
            assert (await client.receive(ApiKey.PRODUCE, 9))[0] == n + 1


@on_uvloop
async def test_a_client_that_does_not_read_is_not_served_further() -> None:
    async with serve() as served:
        client = await served.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        data = b"x" * (4 << 20)

        def answer() -> None:
            partition = FetchedPartition("t", 0)
            partition.buffers, partition.size = [data], len(data)
            served.broker.fetches[-1][1].done(FetchResponse([partition]))

        for _ in range(100):
            client.send(FetchRequest(), 12)
        answered = 0
        for _ in range(100):
            try:
                await until(lambda: len(served.broker.fetches) > answered, seconds=0.2)  # noqa: B023
            except TimeoutError:
                break
            answer()
            answered += 1
        assert answered < 10
        assert served.door.unread_bytes > 1 << 20
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for n in range(100):
            if n >= answered:
                await until(lambda n=n: len(served.broker.fetches) > n)  # type: ignore[misc]
                answer()
            assert (await client.receive(ApiKey.FETCH, 12))[0] == n + 1
        await until(lambda: not served.door.unread_bytes)


@on_uvloop
async def test_what_clients_leave_unread_limits_the_next_fetches_until_they_are_gone() -> None:
    async with serve() as served:
        idler, reader = await served.connect(), await served.connect()
        idler.writer.transport.pause_reading()  # type: ignore[attr-defined]
        idler.send(FetchRequest(max_bytes=50 << 20), 12)
        await until(lambda: len(served.broker.fetches) == 1)
        partition = FetchedPartition("t", 0)
        partition.buffers, partition.size = [bytes(300 << 20)], 300 << 20
        served.broker.fetches[0][1].done(FetchResponse([partition]))
        assert served.broker.fetches[0][0].max_bytes == 50 << 20

        reader.send(FetchRequest(max_bytes=50 << 20), 12)
        await until(lambda: len(served.broker.fetches) == 2)
        assert served.broker.fetches[1][0].max_bytes == 1 << 20
        idler.writer.transport.abort()
        await until(lambda: not served.door.unread_bytes)


@on_uvloop
async def test_connections_are_limited() -> None:
    async with serve(Limits(max_connections=2)) as served:
        clients = [await served.connect() for _ in range(2)]
        await until(lambda: len(served.door.connections) == 2)
        with capture_logs() as logs:
            assert await (await served.connect()).ended() == b""
        assert ["max.connections=2" in line["reason"] for line in logs] == [True]
        await clients[0].close()
        await until(lambda: len(served.door.connections) == 1)
        client = await served.connect()
        client.send(ApiVersionsRequest(), 0)
        await client.receive(ApiKey.API_VERSIONS, 0)


@on_uvloop
async def test_idle_connections_end_and_waiting_ones_stay() -> None:
    async with serve(Limits(max_idle_ms=100)) as served:
        idle, waiting = await served.connect(), await served.connect()
        waiting.send(FetchRequest(), 12)
        assert await idle.ended() == b""
        await until(lambda: len(served.broker.fetches) == 1)
        served.broker.fetches[0][1].done(FetchResponse([]))
        await waiting.receive(ApiKey.FETCH, 12)


@on_uvloop
async def test_a_stop_answers_what_is_under_way() -> None:
    async with serve() as served:
        client = await served.connect()
        idle = await served.connect()
        asked = client.send(produce(), 9)
        await until(lambda: len(served.broker.produced) == 1)
        stopping = asyncio.create_task(served.door.stop(5000))
        assert await idle.ended() == b""
        served.broker.acknowledge(0)
        assert (await client.receive(ApiKey.PRODUCE, 9))[0] == asked
        await stopping
        with pytest.raises(ConnectionError):
            await served.connect()


@on_uvloop
async def test_a_stop_does_not_wait_longer_than_its_grace() -> None:
    async with serve() as served:
        client = await served.connect()
        client.send(produce(), 9)
        await until(lambda: len(served.broker.produced) == 1)
        await asyncio.wait_for(served.door.stop(50), 5)
        assert not served.door.connections
        served.broker.acknowledge(0)  # late, to nobody


@on_uvloop
async def test_a_slow_client_may_send_byte_by_byte() -> None:
    async with serve() as served:
        client: Client = await served.connect()
        for byte in client.frame(ApiVersionsRequest(), 0):
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.receive(ApiKey.API_VERSIONS, 0)
