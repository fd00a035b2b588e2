"""What every replica holds, read from the files of nodes that have stopped, as one more reader each."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from ottla.cli.log_files import batches, mapped, records_of, segments
from ottla.records.header import BatchHeader
from ottla.testing.chaos.clients.port import Read
from ottla.testing.chaos.workloads.scene import Log, plain
from ottla.testing.history import Recorder, Seen, Written, now_ns


def read_replicas(
    recorder: Recorder,
    data: Sequence[tuple[int, Path]],
    topics: dict[str, Callable[[Read], Seen] | None],
    *,
    without: Collection[Path] = (),
) -> int:
    """Nodes with the folders of their partitions; how many logs there were. `without`: folders that do not count."""
    count = 0
    for node, folder in data:
        for topic, seen in topics.items():
            for log_folder in sorted(folder.glob(f"{topic}-*")):
                number = log_folder.name.removeprefix(f"{topic}-")
                if not number.isdigit() or log_folder in without:
                    continue
                log = Log(recorder, f"replica-{node}-{log_folder.name}")
                since = now_ns()
                records: list[Read] = []
                written: list[Written] = []
                for header, found in _batches(topic, int(number), log_folder):
                    records += found
                    _add(written, header)
                log.polled(since, map(seen, records) if seen else plain(records), committed=False)
                log.writers(since, topic, int(number), written)
                count += 1
    return count


def _add(written: list[Written], header: BatchHeader) -> None:
    """Batches of one producer that follow each other are one row."""
    if header.producer_id < 0:
        return
    row = Written(header.base_offset, header.last_offset, header.producer_id, header.producer_epoch)
    if written and written[-1][2:] == row[2:] and written[-1].last_offset + 1 == row.first_offset:
        row = row._replace(first_offset=written.pop().first_offset)
    written.append(row)


def _batches(topic: str, partition: int, folder: Path) -> Iterator[tuple[BatchHeader, list[Read]]]:
    for path in segments((folder,)):
        with mapped(path) as data:
            for position, header in batches(data):
                if header.is_control:
                    continue  # ends of transactions, which no reader sees
                records = records_of(data, position)
                yield header, [Read(topic, partition, r.offset, _text(r.key), _text(r.value)) for r in records]


def _text(data: bytes | None) -> str | None:
    return None if data is None else bytes(data).decode()
