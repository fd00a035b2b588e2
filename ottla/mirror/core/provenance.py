"""Which clusters a record has passed through, so that no mirror brings it back to one of them.

The copies themselves bear nothing: their bytes stay those of the originals. Where they came from stands in the runs of
the progress topic of the cluster that they were copied to, written in the same transaction; every mirror that reads
from this cluster reads that topic too. A record's *path* are the ids of the clusters that it was copied from, the
first of them is where it was produced. A mirror leaves out what passed through its target already. So active-active
with the same names on both sides is safe, and so are rings.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from ottla.records.header import BatchHeader

_PRODUCERS_KEPT: Final = 10_000

Path = tuple[str, ...]
"""Cluster ids, from the one where a record was produced to the one that it was copied from last. (): produced here."""


def is_loop(path: Path, target_cluster_id: str) -> bool:
    """Whether a record of this path was in the target already."""
    return target_cluster_id in path


class Paths:
    """The paths of one map's copies, beyond the source cluster; runs name them by index. Index 0 is ()."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._paths: list[Path] = [()]
        for path in paths:
            self.index(path)

    def index(self, path: Path) -> int:
        """The path's index, which it gets with the first call."""
        try:
            return self._paths.index(path)
        except ValueError:
            self._paths.append(path)
            return len(self._paths) - 1

    def __getitem__(self, index: int) -> Path:
        return self._paths[index]

    def __len__(self) -> int:
        return len(self._paths)

    def others(self) -> tuple[Path, ...]:
        """All but the empty one, in the order of their indexes from 1 on."""
        return tuple(self._paths[1:])


class Ancestry(Protocol):
    """Who knows what mirrors wrote into a cluster: `progress.Ledger`."""

    def path_at(self, topic_id: str, partition: int, offset: int) -> Path | None:
        """The path of the record at this offset; None: no mirror is known to have written it."""


class Origins:
    """The paths of the batches that are read from one cluster.

    A mirror writes in transactions, and what it wrote is in the ledger before the transaction commits. So a batch
    outside of transactions was produced here; and one that the ledger does not know, when it has been read up to an
    end that was asked for after the batch was fetched, was so too, with all others of its producer in that partition. A
    mirror puts records of one path only into a batch.
    """

    def __init__(self, ledger: Ancestry) -> None:
        self._ledger = ledger
        self._here: dict[tuple[str, int, int], None] = {}  # topic id, partition, producer id

    def path_of(self, topic_id: str, partition: int, batch: BatchHeader) -> Path | None:
        """The batch's path; None: read the progress topic up to its present end, then ask `settled_path_of`."""
        if not batch.is_transactional or (topic_id, partition, batch.producer_id) in self._here:
            return ()
        return self._ledger.path_at(topic_id, partition, batch.base_offset)

    def settled_path_of(self, topic_id: str, partition: int, batch: BatchHeader) -> Path:
        """As `path_of`, when the ledger has been read far enough to know it."""
        path = self.path_of(topic_id, partition, batch)
        if path is not None:
            return path
        if len(self._here) >= _PRODUCERS_KEPT:
            del self._here[next(iter(self._here))]
        self._here[topic_id, partition, batch.producer_id] = None
        return ()
