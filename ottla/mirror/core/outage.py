"""A cluster that is away, as everyone who waits for it finds out by himself: what is said of it, once for all.

well ── somebody fails ──▶ failing ── it lasts: said ──▶ away ── nobody waits any more: said ──▶ well
                              └────── nobody waits any more ───────────────────────────────────────┘
"""

from collections import Counter
from typing import Final, NamedTuple

from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import TopicPartition

# What says that nodes are away, and nothing of the partition that met it.
_AWAY: Final = frozenset(
    {
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.BROKER_NOT_AVAILABLE,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    }
)


class Waiting(NamedTuple):
    """Somebody who needs the cluster: a partition, and in whose name it is read or written."""

    owner: str  # such as a flow
    partition: TopicPartition


class Outage:
    """Of one cluster. Times are seconds of any clock that does not go back."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._waiting: set[Waiting] = set()
        self._reason = ""
        self._since_s = 0.0
        self._is_said = False

    def covers(self, error: Exception) -> bool:
        """Whether an error says that nodes are away, while it is known already that they are."""
        return bool(self._waiting) and is_away(error)

    def waits(self, who: Waiting) -> bool:
        """Whether the cluster is what it waits for."""
        return who in self._waiting

    def failed(self, who: Waiting, error: ClientError, now_s: float) -> bool:
        """An error for which `is_away` holds. Whether it is the first: see then with `say` whether it lasts."""
        is_first = not self._waiting
        if is_first:
            self._since_s = now_s
        self._waiting.add(who)
        self._reason = error.message or error.code.name
        return is_first

    def say(self, now_s: float) -> str | None:
        """What to say of it now; None: it is over."""
        if not self._waiting:
            return None
        counts = Counter(one.owner for one in self._waiting)
        waiting = ", ".join(f"{count} of {owner}" for owner, count in sorted(counts.items()))
        since = f" for {now_s - self._since_s:.0f} s" if self._is_said else ""
        self._is_said = True
        return f"{self._alias} is away{since} ({self._reason}): partitions that wait: {waiting}"

    def well(self, who: Waiting, now_s: float) -> str | None:
        """It has what it needs of the cluster. What to say, when it was the last one."""
        if not self.waits(who):
            return None
        was_said = self._is_said
        self.forget(who)
        if self._waiting or not was_said:
            return None
        return f"{self._alias} is there again, after {now_s - self._since_s:.0f} s"

    def forget(self, who: Waiting) -> None:
        """It waits no more, whatever the cluster does."""
        self._waiting.discard(who)
        if not self._waiting:
            self._is_said = False


def is_away(error: Exception) -> bool:
    """Whether an error speaks of the cluster's nodes, and not of the partition that met it."""
    return isinstance(error, ClientError) and error.code in _AWAY
