"""Which nodes a local cluster has, written down in its directory, so that a lost disk is not taken for fewer nodes.

Where nothing is written they are counted: node-1, node-2, … as far as there are directories with data.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ottla.core.errors import StorageError
from ottla.node.data_directory import is_formatted
from ottla.node.founding import MAX_NODES

FILE: Final = "nodes.json"


def node_directory(directory: Path, number: int) -> Path:
    """Where a node keeps its data; `directory` is the cluster's."""
    return directory / f"node-{number}"


def members(directory: Path) -> tuple[int, ...]:
    """Their numbers, ascending; none where nothing was founded yet. Raises StorageError."""
    written = _read(directory / FILE)
    if written is not None:
        return written
    numbers = range(1, MAX_NODES + 1)
    highest = max((n for n in numbers if is_formatted(node_directory(directory, n))), default=0)
    return tuple(range(1, highest + 1))  # a gap is a lost disk


def write_members(directory: Path, numbers: Iterable[int]) -> None:
    """From now on the cluster has these."""
    temporary = directory / f"{FILE}.tmp"
    temporary.write_text(json.dumps(sorted(numbers)) + "\n", encoding="utf-8")
    temporary.replace(directory / FILE)


def found_members(directory: Path, numbers: Sequence[int], *, fresh: bool) -> None:
    """A cluster of these starts there; what was written of one that there is already stays, unless it is `fresh`."""
    if fresh or _read(directory / FILE) is None:
        write_members(directory, numbers if fresh else {*numbers, *members(directory)})


def free_number(directory: Path, taken: Sequence[int]) -> int | None:
    """The lowest number of no node, of which no data lie about either."""
    numbers = (n for n in range(1, MAX_NODES + 1) if n not in taken)
    return next((n for n in numbers if not is_formatted(node_directory(directory, n))), None)


def _read(path: Path) -> tuple[int, ...] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return tuple(sorted(int(number) for number in stored))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"{path} is damaged ({error}): write the numbers of the nodes into it, as [1, 2, 3]"
        ) from error
