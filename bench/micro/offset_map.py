"""What a mirror's offset map costs: `python -m bench.micro.offset_map`; bytes, and processor time in nanoseconds.

A million records of a partition, with a transaction's marker after each hundred in the copy, so that the map has ten
thousand runs; one transaction of the mirror wrote each of them.
"""

import tracemalloc
from collections.abc import Iterator
from random import Random
from time import thread_time

from ottla.mirror.core.offset_map import Chunk, OffsetMap
from ottla.mirror.core.progress import CopiedPartition, MapId
from ottla.mirror.core.runs import CHUNK_RUNS, Run

RECORDS, EVERY = 1_000_000, 100
LOOKUPS = 20_000


def main() -> None:
    copy = CopiedPartition(MapId("c" * 22, "s" * 22, "t" * 22, 0), "a", "orders", "a.orders")
    written, topic_bytes = 0, {}
    spent = 0.0
    for number in range(RECORDS // EVERY):
        run = Run(number * EVERY, number * (EVERY + 1), EVERY)
        started = thread_time()
        records = copy.records(copy.map.plan([run], run.source_end))
        encoded = [record.encode() for record in records]
        for record in records:
            copy.replay(record)
        spent += thread_time() - started
        for key, value in encoded:
            written += len(key) + len(value)
            topic_bytes[key] = len(key) + len(value)
    runs, held = RECORDS // EVERY, memory_of(copy.map)
    print(f"{runs} runs of {EVERY} records")
    print(f"in memory                     {held:>10} bytes, {held / runs:.1f} a run")
    print(f"in the topic, compacted       {sum(topic_bytes.values()):>10} bytes, {len(topic_bytes)} records")
    print(f"written                       {written:>10} bytes, {written / runs:.0f} a transaction")
    print(f"to plan, encode and replay    {spent / runs * 1e9:>10.0f} ns a transaction")
    measure(copy.map)


def memory_of(offsets: OffsetMap) -> int:
    """Of the same map, read back from the topic's records."""
    chunks = list(chunks_of(offsets))
    tracemalloc.start()
    again = OffsetMap()
    for chunk in chunks:
        again.replay(chunk)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


def chunks_of(offsets: OffsetMap) -> Iterator[Chunk]:
    runs = list(offsets.runs())
    for number, start in enumerate(range(0, len(runs), CHUNK_RUNS)):
        piece = tuple(runs[start : start + CHUNK_RUNS])
        yield Chunk(number, piece[-1].source_end, piece)


def measure(offsets: OffsetMap) -> None:
    random = Random(7)
    anywhere = [random.randrange(RECORDS) for _ in range(LOOKUPS)]
    near = [RECORDS - 1 - offset % 5_000 for offset in anywhere]
    for name, wanted in (("anywhere", anywhere), ("near the end", near)):
        for side, look_up in (("to target", offsets.to_target), ("to source", offsets.to_source)):
            started = thread_time()
            for offset in wanted:
                look_up(offset)
            print(f"{side}, {name:<19} {(thread_time() - started) / LOOKUPS * 1e9:>10.0f} ns")


if __name__ == "__main__":
    main()
