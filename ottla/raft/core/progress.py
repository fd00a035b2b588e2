"""What the leader knows of one follower, and how fast it may send to it.

PROBE      where the logs agree is not known: one request at a time
REPLICATE  requests follow each other without waiting, up to a number of bytes in flight
SNAPSHOT   the entries that it lacks are compacted away: chunks, one at a time
"""

from collections import deque
from enum import Enum

from ottla.raft.core.entries import Snapshot


class Pace(Enum):
    """How a follower is sent to."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """`match`: durably equal to the leader's log up to here. `next`: what is sent next."""

    __slots__ = ("acknowledged_round", "active", "awaited", "in_flight", "in_flight_bytes", "match", "next", "offset",
                 "pace", "sent_round", "since", "snapshot", "told_commit")  # fmt: skip

    def __init__(self, next_index: int) -> None:
        self.match = 0
        self.next = next_index
        self.pace = Pace.PROBE
        self.since = 0  # requests of a smaller number belong to an earlier pace
        self.awaited: int | None = None  # number of the one request in flight, while probing or sending a snapshot
        self.in_flight: deque[tuple[int, int]] = deque()  # (last index, bytes) of each request
        self.in_flight_bytes = 0
        self.sent_round = 0  # the heartbeat round when what is awaited was sent, or last moved
        self.snapshot: Snapshot | None = None  # the one being sent
        self.offset = 0  # of its next chunk
        self.active = True  # answered since the quorum was last checked
        self.acknowledged_round = 0
        self.told_commit = 0

    @property
    def waiting(self) -> bool:
        """Something sent is not answered."""
        return self.awaited is not None or bool(self.in_flight)

    def probe(self) -> None:
        """What is in flight is taken for lost."""
        self._enter(Pace.PROBE)
        self.next = self.match + 1

    def replicate(self, next_number: int) -> None:
        self._enter(Pace.REPLICATE)
        self.since, self.snapshot, self.next = next_number, None, self.match + 1

    def send_snapshot(self, snapshot: Snapshot) -> None:
        """One that is being sent is sent to its end, also when there is a newer one."""
        self._enter(Pace.SNAPSHOT)
        if self.snapshot is None:
            self.snapshot, self.offset = snapshot, 0

    def send_next_snapshot(self, snapshot: Snapshot) -> None:
        """The one that was being sent has arrived."""
        self.snapshot = None
        self.send_snapshot(snapshot)

    def await_reply(self, number: int, heartbeat_round: int) -> None:
        self.awaited, self.sent_round = number, heartbeat_round

    def take_off(self, last_index: int, size_bytes: int, heartbeat_round: int) -> None:
        """A request with entries up to `last_index` went out."""
        if not self.in_flight:
            self.sent_round = heartbeat_round
        self.in_flight.append((last_index, size_bytes))
        self.in_flight_bytes += size_bytes
        self.next = last_index + 1

    def matched(self, index: int, heartbeat_round: int) -> bool:
        """The follower holds everything up to `index`; returns whether that is news."""
        while self.in_flight and self.in_flight[0][0] <= index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]
            self.sent_round = heartbeat_round
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        return True

    def refused(self, hint_index: int) -> None:
        """The logs agree at `hint_index` at most."""
        self.probe()
        self.next = max(self.match, hint_index) + 1

    def _enter(self, pace: Pace) -> None:
        self.pace, self.awaited = pace, None
        self.in_flight.clear()
        self.in_flight_bytes = 0
