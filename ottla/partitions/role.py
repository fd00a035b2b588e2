"""What the role of a replica, leader or follower, is told by its partition, and what it is asked."""

from typing import Protocol


class ReplicaRole(Protocol):
    """What one of several replicas is for the others; always on the loop."""

    @property
    def has_enough_replicas(self) -> bool:
        """Whether the committed ISR reaches `min.insync.replicas`."""

    @property
    def latest_is_known(self) -> bool:
        """Whether the high watermark is at least what earlier leaders showed (KIP-207)."""

    @property
    def others_have_all(self) -> bool:
        """Whether another replica has everything that is committed, so that it can go on without this one."""

    def appended(self) -> None:
        """A client's batch is at the log end."""

    def begun_anew(self, offset: int) -> None:
        """Of a leader: its log is empty now, and begins and ends at `offset`. What was before is deleted for good."""

    def synced(self, end_offset: int) -> None:
        """What the log holds below `end_offset` counts as committed here."""

    def failed(self) -> None:
        """The log is out of service."""
