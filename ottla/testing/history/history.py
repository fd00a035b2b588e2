"""A history as the checker has it: the operations of all processes, by kind, in the order of their invocation."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Final, cast

from ottla.testing.history.lines import START, decoded
from ottla.testing.history.operations import (
    Assigned,
    Begin,
    Commit,
    End,
    EndOffsets,
    OffsetFetch,
    Operation,
    Poll,
    Renumbered,
    Revoked,
    Seek,
    Send,
    Snapshot,
    Writers,
)
from ottla.testing.history.recorder import SUFFIX

_INVOKED: Final = attrgetter("invoked_ns")


class BadHistory(ValueError):
    """A file of a history cannot be read; says where."""


@dataclass(slots=True)
class History:
    """All operations. Each list is in the order of invocation."""

    sends: list[Send] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    offset_fetches: list[OffsetFetch] = field(default_factory=list)
    begins: list[Begin] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    assigned: list[Assigned] = field(default_factory=list)
    revoked: list[Revoked] = field(default_factory=list)
    seeks: list[Seek] = field(default_factory=list)
    end_offsets: list[EndOffsets] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    writers: list[Writers] = field(default_factory=list)
    renumbered: list[Renumbered] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self._lists()))

    def __iter__(self) -> Iterator[Operation]:
        for one in self._lists():
            yield from one

    def _lists(self) -> list[list[Operation]]:
        return [getattr(self, name) for name in _LISTS.values()]


_LISTS: Final = {
    "send": "sends",
    "poll": "polls",
    "commit": "commits",
    "offset-fetch": "offset_fetches",
    "begin": "begins",
    "end": "ends",
    "assigned": "assigned",
    "revoked": "revoked",
    "seek": "seeks",
    "end-offsets": "end_offsets",
    "snapshot": "snapshots",
    "writers": "writers",
    "renumbered": "renumbered",
}


def history_of(operations: Iterable[Operation]) -> History:
    """Of these, in whatever order they come."""
    history = History()
    add = {kind: cast("list[Operation]", getattr(history, name)).append for kind, name in _LISTS.items()}
    for operation in operations:
        add[operation.kind](operation)
    for one in history._lists():
        one.sort(key=_INVOKED)
    return history


def read(directory: Path) -> History:
    """All files of a run, `*.history`, in this folder and below it. Raises BadHistory."""
    return history_of(one for path in sorted(directory.rglob(f"*{SUFFIX}")) for one in read_file(path))


def read_file(path: Path) -> Iterator[Operation]:
    """The operations of one file; of one that was begun and never ended, what was known when it began."""
    under_way: dict[int, Operation] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                break  # its process was killed while it wrote
            try:
                row = json.loads(line)
                if row[0] == START:
                    yield from under_way.values()
                    under_way.clear()
                    continue
                operation = decoded(row)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise BadHistory(f"{path}, line {number}: {error!r}") from error
            match row[1]:
                case 0:
                    yield operation
                case begun if begun in under_way:
                    del under_way[begun]
                    yield operation
                case begun:
                    under_way[begun] = operation
    yield from under_way.values()
