"""What every replica holds, read from the files of nodes that have stopped, as one more reader each."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from ottla.cli.log_files import batches, mapped, records_of, segments
from ottla.testing.chaos.clients.port import Read
from ottla.testing.chaos.workloads.scene import Log, plain
from ottla.testing.history import Recorder, Seen, now_ns


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
                records = list(_records(topic, int(number), log_folder))
                log.polled(since, map(seen, records) if seen else plain(records), committed=False)
                count += 1
    return count


def _records(topic: str, partition: int, folder: Path) -> Iterator[Read]:
    for path in segments((folder,)):
        with mapped(path) as data:
            for position, header in batches(data):
                if header.is_control:
                    continue  # ends of transactions, which no reader sees
                for record in records_of(data, position):
                    yield Read(topic, partition, record.offset, _text(record.key), _text(record.value))


def _text(data: bytes | None) -> str | None:
    return None if data is None else bytes(data).decode()
