"""What remembered producers cost a partition: bytes each, and how long a snapshot of them holds the loop.

python -m bench.micro.producers [--producers N] [--batches N]
"""

import argparse
import time
import tracemalloc

from ottla.partitions.producer_snapshot import decode_snapshot, encode_snapshot
from ottla.partitions.producer_state import ProducerStates
from ottla.records.batch import Record, encode_batch
from ottla.records.header import BatchHeader, read_header


def header_of(producer_id: int, sequence: int, template: BatchHeader) -> BatchHeader:
    template.producer_id, template.base_sequence = producer_id, sequence
    return template


def timed(what: str, started: float) -> float:
    now = time.perf_counter()
    print(f"{what:<58}{(now - started) * 1000:>10.1f} ms")
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro.producers", description=__doc__)
    parser.add_argument("--producers", type=int, default=1_000_000, help="that come, produce and go, one after another")
    parser.add_argument("--batches", type=int, default=5, help="of each")
    options = parser.parse_args()
    encoded = encode_batch([Record(0, 1, None, b"v", ())], producer_id=1, producer_epoch=0, base_sequence=0)
    template = read_header(encoded)
    states = ProducerStates()
    tracemalloc.start()
    offset = 0
    slowest = 0.0
    started = time.process_time()
    for producer_id in range(options.producers):
        for sequence in range(options.batches):
            header = header_of(producer_id, sequence, template)
            before = time.perf_counter()
            states.record(header, offset, 1)
            slowest = max(slowest, time.perf_counter() - before)
            offset += 1
    each = (time.process_time() - started) / offset * 1e6
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{len(states):,} producers, {options.batches} batches of each: {held / len(states):.0f} bytes each")
    print(f"{each:.1f} µs to record a batch (traced), the slowest {slowest * 1000:.1f} ms")
    moment = time.perf_counter()
    snapshot = states.snapshot()
    moment = timed("snapshot: on the loop", moment)
    file = encode_snapshot(snapshot)
    moment = timed(f"snapshot: made into a file of {len(file) / 1e6:.0f} MB, off the loop", moment)
    found = decode_snapshot(file)
    assert found is not None
    restored = ProducerStates()
    restored.restore(found, offset)
    moment = timed("snapshot: read at a start", moment)
    assert len(restored) == len(states)
    slowest = 0.0
    before = moment
    for _ in restored.expire(lambda: 1):
        now = time.perf_counter()
        slowest, before = max(slowest, now - before), now
    moment = timed("expiry of all of them, in slices", moment)
    print(f"{'  the longest slice':<58}{slowest * 1000:>10.1f} ms")
    assert len(restored) == 0


if __name__ == "__main__":
    main()
