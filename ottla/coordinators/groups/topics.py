"""What the group coordinator has to know about topics: names and ids, and how many partitions there are."""

from collections.abc import Iterable
from typing import Protocol

from ottla.core.types import Uuid


class Topics(Protocol):
    """The cluster's topics as they are now."""

    def topic_id(self, name: str) -> Uuid | None: ...
    def topic_name(self, topic_id: Uuid) -> str | None: ...
    def partition_count(self, name: str) -> int:
        """0 when there is no such topic."""

    def names(self) -> Iterable[str]:
        """Of all topics."""
