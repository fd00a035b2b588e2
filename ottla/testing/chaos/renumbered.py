"""What librdkafka tells of the epochs that it raises by itself, from the logs of a run's processes (`debug=eos`).

An idempotent producer that meets a gap in its sequences, or gives a record up, raises its epoch and numbers what it has
for all partitions anew. What had been appended, and was not answered, is then written a second time: its own making.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ottla.testing.history import Outcome, Recorder, Renumbered, now_ns

_WHY: Final = re.compile(r"\|(?P<client>[^|]+)\| .*eginning partition drain .* epoch bump for .*requests: (?P<why>.*)$")
_RAISED: Final = re.compile(r"\|(?P<client>[^|]+)\| .*bumped epoch to PID\{Id:(?P<id>\d+),Epoch:(?P<epoch>\d+)\}")


def note_renumbered(directory: Path) -> list[Renumbered]:
    """Read every `*.log` of the folder, and add what they tell to the history in it."""
    found = [one for path in sorted(directory.glob("*.log")) for one in _told(path)]
    if found:
        with Recorder(directory / "renumbered.history", "renumbered") as recorder:
            for one in found:
                recorder.add(one)
    return found


def _told(path: Path) -> Iterator[Renumbered]:
    why: dict[str, str] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if "epoch" not in line:
                continue
            if because := _WHY.search(line):
                why[because["client"]] = because["why"].strip()
            elif raised := _RAISED.search(line):
                now = now_ns()
                yield Renumbered(
                    process=f"{path.stem}, {raised['client']}",
                    invoked_ns=now,
                    completed_ns=now,
                    outcome=Outcome.OK,
                    producer_id=int(raised["id"]),
                    epoch=int(raised["epoch"]),
                    why=why.get(raised["client"], ""),
                )
