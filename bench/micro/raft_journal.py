"""The quorum's journal on a real disk: what a sync costs in files of three kinds, and what `persist` makes of it.

python -m bench.micro.raft_journal [--directory DIR] [--rounds N]

The kinds are measured in turns. Each figure is a median within a round; shown are the best round, as what else runs on
the machine only adds to it, and the median of all rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

from ottla.adapters.files import OsFile, OsFiles
from ottla.core.types import NodeId, Uuid
from ottla.raft.core import Entry, EntryKind, HardState, Member, Membership, Snapshot
from ottla.raft.journal import DEFAULT_SEGMENT_BYTES, Journal

MEMBER = Member(NodeId(1), Uuid(b"1" * 16))
ENTRY_BYTES = 100


class Handed:
    """What is persisted together."""

    snapshot: Snapshot | None = None

    def __init__(self, entries: list[Entry], hard_state: HardState | None = None) -> None:
        self.entries, self.hard_state = entries, hard_state


def grows(file: OsFile) -> None:
    """Each write makes the file longer."""


def allocated(file: OsFile) -> None:
    file.allocate(0, DEFAULT_SEGMENT_BYTES)
    file.sync()


def zeros(file: OsFile) -> None:
    for position in range(0, DEFAULT_SEGMENT_BYTES, 1 << 20):
        file.pwritev([bytes(1 << 20)], position)
    file.sync()


KINDS = {"grows": grows, "allocated": allocated, "zeros": zeros}


def sync_costs(files: OsFiles, prepare: Callable[[OsFile], None], size: int, count: int) -> tuple[float, float]:
    """Microseconds of a synced write of `size` bytes at the median, and milliseconds that the file took to prepare."""
    file = files.open("file", create=True)
    started = time.perf_counter()
    prepare(file)
    prepared = time.perf_counter() - started
    took = []
    data = b"x" * size
    for n in range(count):
        started = time.perf_counter()
        file.pwritev([data], n * size, sync=True)
        took.append(time.perf_counter() - started)
    file.close()
    files.remove("file")
    return statistics.median(took) * 1e6, prepared * 1e3


def persist_costs(files: OsFiles, entries: int, count: int) -> tuple[float, float]:
    """Microseconds of a `persist` at the median, and entries a second over all, new segments included."""
    journal, _ = Journal.open(files, "quorum", member=MEMBER, bootstrap=Membership(frozenset({MEMBER})))
    journal.persist([Handed([], HardState(1, MEMBER))])
    took, index, data = [], 1, b"v" * ENTRY_BYTES
    for _ in range(count):
        change = Handed([Entry(index + n, 1, EntryKind.DATA, data) for n in range(entries)])
        index += entries
        started = time.perf_counter()
        journal.persist([change])
        took.append(time.perf_counter() - started)
    journal.close()
    files.remove_tree("quorum")
    return statistics.median(took) * 1e6, entries * count / sum(took)


def main(directory: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as root:
        files = OsFiles(root)
        for size in (200, 8 << 10):
            found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
            for _ in range(rounds):
                for kind, prepare in KINDS.items():
                    found[kind].append(sync_costs(files, prepare, size, 400))
            for kind, figures in found.items():
                took, prepared = zip(*figures, strict=True)
                print(
                    f"a synced write of {size:>5,} B, file {kind:<10} {min(took):>5.0f} µs "
                    f"({statistics.median(took):,.0f})   prepared in {min(prepared):.1f} ms"
                )
        for entries, count in ((1, 1000), (64, 600)):
            figures = [persist_costs(files, entries, count) for _ in range(rounds)]
            took, rates = zip(*figures, strict=True)
            print(
                f"persist of {entries:>2} entries of {ENTRY_BYTES} B   p50 {min(took):>4.0f} µs "
                f"({statistics.median(took):,.0f})   {max(rates):>8,.0f} entries/s ({statistics.median(rates):,.0f})"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", default=".", help="where the files are made")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    main(arguments.directory, arguments.rounds)
