"""How long the checker takes for a million operations: `python -m bench.micro.history [--operations 1000000]`.

A tenth of the records are written in transactions of ten; three readers see everything. Reading the files of the
recorders is measured beside.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ottla.testing.history import (
    At,
    Begin,
    Commit,
    End,
    Expectations,
    Operation,
    Outcome,
    Poll,
    Recorder,
    Seen,
    Send,
    check,
    read,
)

PARTITIONS = 12
READERS = 3
BATCH = 100
OF_TRANSACTION = 10
OK = Outcome.OK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    wanted = parser.parse_args().operations
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        began = time.perf_counter()
        written = 0
        with Recorder(directory / "all.history") as recorder:
            for operation in operations(wanted):
                recorder.add(operation)
                written += 1
        each_us = (time.perf_counter() - began) / written * 1e6
        print(f"{written:,} operations recorded in {_since(began)}, {each_us:.1f} µs each")
        began = time.perf_counter()
        history = read(directory)
        print(f"read in {_since(began)}")
        began = time.perf_counter()
        verdict = check(history, Expectations(longest_gap_ms=1000))
        print(f"checked in {_since(began)}: {verdict}")
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB at most")


def operations(wanted: int) -> Iterator[Operation]:
    """So many, of which nearly all are records sent."""
    now, number, txn = 0, 0, 0
    ends = [0] * PARTITIONS
    logs: list[list[Seen]] = [[] for _ in range(PARTITIONS)]
    while number < wanted:
        partition = number // OF_TRANSACTION % PARTITIONS
        name = None
        topic = "bench"
        if number // OF_TRANSACTION % 10 == 0:
            txn += 1
            name = f"t{txn}"
            yield Begin(
                process="w", invoked_ns=now, completed_ns=now, outcome=OK, transaction=name, transactional_id="w"
            )
        for _ in range(OF_TRANSACTION):
            number += 1
            now += 20_000
            value = f"value-{number}"
            yield Send(
                process="w",
                invoked_ns=now,
                completed_ns=now + 1_000_000,
                outcome=OK,
                topic=topic,
                partition=partition,
                value=value,
                offset=ends[partition],
                transaction=name,
            )
            logs[partition].append(Seen(topic, partition, ends[partition], value, None, name))
            ends[partition] += 1
        if name is not None:
            now += 1_000_000
            at = At("input", 0, txn)
            yield Commit(
                process="w", invoked_ns=now, completed_ns=now, outcome=OK, group="g", offsets=(at,), transaction=name
            )
            yield End(process="w", invoked_ns=now, completed_ns=now + 1000, outcome=OK, transaction=name, commit=True)
            ends[partition] += 1
            number += 3
        if len(logs[partition]) >= BATCH:
            now += 2_000_000
            records, logs[partition] = tuple(logs[partition]), []
            for reader in range(READERS):
                number += 1
                yield Poll(
                    process=f"r{reader}",
                    invoked_ns=now,
                    completed_ns=now + 1000,
                    outcome=OK,
                    records=records,
                    committed=reader > 0,
                )


def _since(began: float) -> str:
    return f"{time.perf_counter() - began:.1f} s"


if __name__ == "__main__":
    main()
