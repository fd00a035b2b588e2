"""What each mirror process says of its partitions, for whoever asks from elsewhere: records in the progress topic.

One record a process and flow every few seconds, by which others also know that the process lives; its tombstone when
the process ends. It tells of partitions that copied something lately or are in trouble, so idle ones cost nothing.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ottla.client.types import TopicPartition
from ottla.mirror.core.numbers import read_number, read_text, write_number, write_text
from ottla.mirror.core.partition_task import State

if TYPE_CHECKING:
    from ottla.mirror.engine.copier import PartitionCopier

REPORT_KIND: Final = 1  # of keys in the progress topic; chunks of maps are 0
INTERVAL_S: Final = 3.0
_MOST_TROUBLES: Final = 200  # of a kind, so that a report stays small
STALE_S: Final = 4 * INTERVAL_S  # a process that has said nothing for so long is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReport:
    """What a process says of one partition."""

    process: str
    at: float  # seconds since 1970
    state: str
    error: str
    tries: int
    records_per_s: float
    bytes_per_s: float
    lost: tuple[tuple[int, int], ...]  # offsets that the source lost before they were copied: from, to before


class Reporter:
    """Makes the records of one process and flow."""

    def __init__(self, flow: str, process: str) -> None:
        self._flow, self._process = flow, process
        self._before: dict[TopicPartition, tuple[int, int]] = {}
        self._at = time.monotonic()

    @property
    def key(self) -> bytes:
        """The record's; with no value it is the tombstone."""
        data = bytearray()
        write_number(data, REPORT_KIND)
        write_text(data, self._flow)
        write_text(data, self._process)
        return bytes(data)

    def report(
        self, copiers: Mapping[TopicPartition, "PartitionCopier"], troubles: Mapping[str, Mapping[str, str]]
    ) -> bytes:
        """The value to write now."""
        now = time.monotonic()
        seconds, self._at = max(now - self._at, 0.001), now
        said: dict[str, Any] = {}
        for partition, copier in copiers.items():
            figures, task = copier.figures, copier.task
            records, size = self._before.get(partition, (0, 0))
            self._before[partition] = (figures.records, figures.bytes)
            new_records, new_bytes = figures.records - records, figures.bytes - size
            if new_records or task.state not in (State.COPYING, State.NEW) or task.last_error or task.lost:
                said[f"{partition.topic}-{partition.partition}"] = [
                    task.state.value,
                    task.last_error,
                    task.tries,
                    round(new_records / seconds, 1),
                    round(new_bytes / seconds),
                    [[one.first, one.end] for one in task.lost],
                ]
        told = {kind: dict(islice(found.items(), _MOST_TROUBLES)) for kind, found in troubles.items()}
        return json.dumps({"at": time.time(), "partitions": said, "troubles": told}).encode()


class Reports:
    """Read from the progress topic."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._heard: dict[str, float] = {}  # processes, and when (monotonic) they were last heard of

    def take(self, key: bytes, value: bytes | None) -> None:
        """A record of the progress topic, of whatever kind."""
        kind, position = read_number(key, 0)
        if kind != REPORT_KIND:
            return
        flow, position = read_text(key, position)
        process, _ = read_text(key, position)
        if value is None:
            self._said.pop((flow, process), None)
        else:
            self._heard[process] = time.monotonic()
            self._said[flow, process] = json.loads(value)

    def of(self, flow: str, partition: TopicPartition) -> PartitionReport | None:
        """The newest report about a partition."""
        found: PartitionReport | None = None
        name = f"{partition.topic}-{partition.partition}"
        for (its_flow, process), said in self._said.items():
            if its_flow != flow or name not in said["partitions"] or (found is not None and found.at > said["at"]):
                continue
            state, error, tries, records_per_s, bytes_per_s, lost = said["partitions"][name]
            is_fresh = time.time() - said["at"] < STALE_S
            found = PartitionReport(
                process=process,
                at=said["at"],
                state=state,
                error=error,
                tries=tries,
                records_per_s=records_per_s if is_fresh else 0.0,
                bytes_per_s=bytes_per_s if is_fresh else 0.0,
                lost=tuple((first, end) for first, end in lost),
            )
        return found

    def troubles_of(self, flow: str) -> dict[str, dict[str, str]]:
        """What processes that live say is wrong with a flow beside its partitions: reasons by kind and name."""
        found: dict[str, dict[str, str]] = {}
        for (its_flow, _), said in self._said.items():
            if its_flow == flow and time.time() - said["at"] < STALE_S:
                for kind, reasons in said.get("troubles", {}).items():  # processes of earlier versions tell none
                    found.setdefault(kind, {}).update(reasons)
        return found

    def is_silent(self, process: str, since: float) -> bool:
        """Whether a process that was there at `since` (monotonic) has said nothing for too long."""
        return time.monotonic() - max(since, self._heard.get(process, since)) > STALE_S
