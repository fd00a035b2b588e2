"""One partition's copying as a state machine: where it begins, what stops it, how it waits and goes on.

    state     | event                              | next
    ----------|------------------------------------|------------------------------------------------------------
    NEW       | begin, resume_at                   | COPYING, or STOPPED
    COPYING   | copied, at_end                     | COPYING; the tries count anew
    COPYING   | failed                             | PAUSED; or STOPPED after the last try, when so configured
    COPYING   | out_of_range, too_large            | COPYING, or STOPPED
    PAUSED    | failed (a try to begin again did)  | PAUSED, longer; or STOPPED
    PAUSED    | begin, resume_at                   | COPYING, or STOPPED
    COPYING   | resume_at                          | COPYING, or STOPPED
    any other | refused                            | STOPPED
    STOPPED   | resume (the operator)              | NEW

Any other event is an error (ValueError). Each partition has a task of its own, so trouble of one stalls no other.
Whatever the task knows, it takes from the ledger when it begins: a restarted or moved task goes on in the same way.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple

from ottla.mirror.core.progress import CopiedPartition, MapId


class State(Enum):
    """See the module's table."""

    NEW = "new"
    COPYING = "copying"
    PAUSED = "paused"
    STOPPED = "stopped"


class Fetch(NamedTuple):
    """Read the source from this offset on."""

    offset: int


class Pause(NamedTuple):
    """Wait, then begin again. Whoever waits adds jitter."""

    delay_ms: int


class Stop(NamedTuple):
    """Nothing more is done until somebody resumes the partition; the reason is for people."""

    reason: str


class Lost(NamedTuple):
    """The source no longer has offsets from `first` to before `end`, and they were not copied."""

    first: int
    end: int


class StartedOver(NamedTuple):
    """A topic of the same name is another one now, and is copied from its start."""

    reason: str


class DeadLetter(NamedTuple):
    """Write the record at this source offset to the dead-letter topic, in the same transaction, and go on after it."""

    offset: int


Effect = Fetch | Pause | Stop | Lost | StartedOver | DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPolicy:
    """What was configured for such cases; the fields bear the names of `FlowConfig`."""

    start: Literal["earliest", "latest"] = "earliest"
    on_topic_recreated: Literal["stop", "start-over"] = "stop"
    on_record_too_large: Literal["stop", "dead-letter"] = "stop"
    retries: int = 10
    after_retries: Literal["continue", "stop"] = "continue"
    retry_backoff_ms: int = 100
    retry_backoff_max_ms: int = 30_000


class SourceLog(NamedTuple):
    """The source partition as it is now."""

    log_start_offset: int
    last_stable_offset: int


@dataclass(slots=True)
class PartitionTask:
    """The machine. `state`, `position`, `tries`, `last_error` and `lost` are what `status` shows."""

    map_id: MapId
    policy: TaskPolicy
    state: State = State.NEW
    position: int | None = None
    tries: int = 0  # failures since something was copied
    last_error: str = ""
    lost: list[Lost] = field(default_factory=list)

    def begin(self, copies: Iterable[CopiedPartition], log: SourceLog) -> list[Effect]:
        """Begin, or begin again after a pause. `copies`: all that the ledger has of the topic's name and partition."""
        self._expect("begin", State.NEW, State.PAUSED)
        own, former = None, None
        for copy in copies:
            if copy.map_id == self.map_id:
                own = copy
            elif copy.map_id[0] == self.map_id[0] and copy.map_id[3] == self.map_id[3]:
                former = copy
        if own is not None and own.map.position is not None:
            return self._go_on(own.map.position, log)
        self.position = log.log_start_offset if self.policy.start == "earliest" else log.last_stable_offset
        if former is None:
            self.state = State.COPYING
            return [Fetch(self.position)]
        reason = self._what_changed(former)
        if self.policy.on_topic_recreated == "stop":
            return self._stop(f"{reason}; resume it with on_topic_recreated = start-over to copy it from its start")
        self.state = State.COPYING
        self.position = log.log_start_offset
        return [StartedOver(reason), Fetch(self.position)]

    def resume_at(self, position: int, log: SourceLog, *, is_empty: bool) -> list[Effect]:
        """As `begin`, for a copy that says itself where it ends (`exact`). `is_empty`: it holds nothing yet."""
        self._expect("resume_at", State.NEW, State.PAUSED, State.COPYING)
        if is_empty and position <= log.log_start_offset:
            position = log.log_start_offset  # nothing is lost: it begins where its source does
        return self._go_on(position, log)

    def refused(self, reason: str) -> list[Effect]:
        """What does not get better by itself, and must not be tried again."""
        self._expect("refused", State.NEW, State.COPYING, State.PAUSED)
        return self._stop(reason)

    def copied(self, position: int) -> None:
        """A transaction is committed that decides the source up to `position`."""
        self._expect("copied", State.COPYING)
        if self.position is None or position < self.position:
            raise ValueError(f"copied up to {position} after {self.position}")
        self.position = position
        self.tries = 0
        self.last_error = ""

    def at_end(self) -> None:
        """The source answers that nothing follows: what went wrong before is over, though there was nothing to copy."""
        self._expect("at_end", State.COPYING)
        self.tries = 0
        self.last_error = ""

    def failed(self, error: str) -> list[Effect]:
        """Something did not work that may work later: an unreachable node, a full disk, a denied or missing topic."""
        self._expect("failed", State.NEW, State.COPYING, State.PAUSED)
        self.tries += 1
        self.last_error = error
        if self.tries > self.policy.retries and self.policy.after_retries == "stop":
            return self._stop(f"{error} (after {self.tries} tries)")
        self.state = State.PAUSED
        doubled = self.policy.retry_backoff_ms << min(self.tries - 1, 30)
        return [Pause(min(doubled, self.policy.retry_backoff_max_ms))]

    def out_of_range(self, log: SourceLog) -> list[Effect]:
        """The source has not the offset that was asked for."""
        self._expect("out_of_range", State.COPYING)
        if self.position is None:
            raise ValueError("out of range before a position was known")
        return self._go_on(self.position, log)

    def too_large(self, offset: int, size_bytes: int) -> list[Effect]:
        """The target refused the record at this source offset for its size."""
        self._expect("too_large", State.COPYING)
        if self.policy.on_record_too_large == "dead-letter":
            return [DeadLetter(offset)]
        return self._stop(
            f"the record at offset {offset} ({size_bytes} bytes) is larger than the target takes: raise "
            "max.message.bytes of the copy, or set on_record_too_large = dead-letter"
        )

    def source_changed(self, topic_id: str) -> list[Effect]:
        """The source topic has another id now. The engine replaces this task by one for the new id."""
        self._expect("source_changed", State.NEW, State.COPYING, State.PAUSED)
        return self._stop(f"the source topic is another one now: {topic_id} instead of {self.map_id.source_topic_id}")

    def resume(self) -> None:
        """The operator has seen to the reason why it stopped."""
        self._expect("resume", State.STOPPED)
        self.state, self.tries, self.last_error = State.NEW, 0, ""

    def _go_on(self, position: int, log: SourceLog) -> list[Effect]:
        self.position = position
        if position < log.log_start_offset:
            lost = Lost(position, log.log_start_offset)
            if lost not in self.lost:
                self.lost.append(lost)
            self.position = log.log_start_offset
            self.state = State.COPYING
            return [lost, Fetch(self.position)]
        if position > log.last_stable_offset:
            return self._stop(
                f"the source ends at offset {log.last_stable_offset}, before {position} up to which it was copied: it "
                "has lost records that the target has; copy the topic under another name, or delete it on the target"
            )
        self.state = State.COPYING
        return [Fetch(position)]

    def _what_changed(self, former: CopiedPartition) -> str:
        if former.map_id.source_topic_id != self.map_id.source_topic_id:
            return (
                f"{former.source_topic} was deleted and made again on the source "
                f"(id {self.map_id.source_topic_id}, before {former.map_id.source_topic_id})"
            )
        return (
            f"{former.target_topic} was deleted and made again on the target "
            f"(id {self.map_id.target_topic_id}, before {former.map_id.target_topic_id})"
        )

    def _stop(self, reason: str) -> list[Effect]:
        self.state = State.STOPPED
        self.last_error = reason
        return [Stop(reason)]

    def _expect(self, event: str, *states: State) -> None:
        if self.state not in states:
            raise ValueError(f"{event} while {self.state.value}")
