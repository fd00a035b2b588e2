"""The log alone, durable: appends a second, MB/s and processor time, for one partition and for many.

python -m bench.micro.log [--partitions N] [--switch-interval-ms X]
"""

import argparse
import asyncio
import sys
import tempfile
import time

import uvloop

from ottla.adapters.clock import LoopClock
from ottla.adapters.disk import ThreadedDisk
from ottla.core.error_codes import ErrorCode
from ottla.core.types import Uuid
from ottla.partitions.config import LogConfig
from ottla.partitions.manager import PartitionManager
from ottla.partitions.partition import Partition
from ottla.records.batch import Record, encode_batch


async def measure(partitions: list[Partition], batch: bytes, count: int, in_flight: int) -> str:
    """Append `count` batches, at most `in_flight` of them unacknowledged; the line of the table."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    sent = answered = 0
    latencies: list[float] = []

    def send() -> None:
        nonlocal sent
        partition, started = partitions[sent % len(partitions)], time.perf_counter()
        sent += 1

        def done(code: ErrorCode) -> None:
            nonlocal answered
            assert code is ErrorCode.NONE
            latencies.append(time.perf_counter() - started)
            answered += 1
            if sent < count:
                loop.call_soon(send)
            elif answered == count:
                finished.set_result(None)

        partition.append(memoryview(bytearray(batch)), acks=-1, done=done)

    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(min(in_flight, count)):
        send()
    await finished
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    latencies.sort()
    megabytes = count * len(batch) / 1e6
    return (
        f"{len(batch):>9,} B  {len(partitions):>4} part.  {in_flight:>4} in flight  {count / wall:>8,.0f}/s  "
        f"{megabytes / wall:>6,.0f} MB/s  {processor / count * 1e6:>6.0f} µs CPU each  "
        f"{processor / megabytes * 1000:>6.2f} CPU s/GB  p50 {latencies[count // 2] * 1000:.2f} ms  "
        f"p99 {latencies[count * 99 // 100] * 1000:.2f} ms"
    )


async def main(partition_count: int) -> None:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(dir=".") as directory:
        disk = ThreadedDisk(loop, directory)
        manager = PartitionManager(disk, LoopClock(loop))
        manager.open()
        now_ms = time.time_ns() // 1_000_000
        config = LogConfig(max_message_bytes=2 << 20)
        all_partitions = [manager.create("bench", Uuid(bytes(15) + b"1"), n, config) for n in range(partition_count)]
        small = encode_batch([Record(0, now_ms, None, b"v" * 1024, ())])
        large = encode_batch([Record(0, now_ms, None, b"v" * 1024, ())] * 960)
        print(await measure(all_partitions[:1], small, 2000, 1))
        print(await measure(all_partitions[:1], small, 20_000, 64))
        print(await measure(all_partitions, small, 20_000, 64))
        print(await measure(all_partitions[:1], large, 600, 8))
        closed: asyncio.Future[Exception | None] = loop.create_future()
        manager.close(closed.set_result)
        assert await closed is None
        disk.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--switch-interval-ms", type=float, default=0.5)
    arguments = parser.parse_args()
    sys.setswitchinterval(arguments.switch_interval_ms / 1000)
    uvloop.run(main(arguments.partitions))
