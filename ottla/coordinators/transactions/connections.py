"""Which connection a transactional id is bound to, for clients whose EndTxn is older than version 5.

Their transactions all have the same epoch. When a connection breaks, what was sent on it may still be on its way, and a
late EndTxn could end the next transaction, which the producer began on a new connection. So the youngest connection
on which the present producer was heard is the only one it may use; InitProducerId starts anew. It binds nothing by
itself: what came before it has an older epoch, and there are clients (aiokafka) that send it on another connection than
all that follows.

Two limits: this is known to one node, and only as long as it coordinates the id; and a proxy that mixes the requests of
one client over several connections to the broker is taken for such a client. Newer clients need none of this.
"""

from ottla.core.errors import ApiError, ErrorCode


class Connections:
    """The connections of the transactional ids of one shard."""

    def __init__(self) -> None:
        self._bound: dict[str, int] = {}
        self._replaced: dict[str, int | None] = {}
        """Those of InitProducerId that this turn replaced."""

    def initialized(self, transactional_id: str) -> None:
        """Somebody new has the transactional id now: whatever it is heard on first binds it."""
        self._replaced.setdefault(transactional_id, self._bound.pop(transactional_id, None))

    def check(self, transactional_id: str, connection: int) -> None:
        """Raises PRODUCER_FENCED for what comes late, on a connection that the producer has given up."""
        if connection < self._bound.get(transactional_id, connection):
            raise ApiError(ErrorCode.PRODUCER_FENCED)

    def used(self, transactional_id: str, connection: int) -> None:
        """The present producer was heard on this connection."""
        if connection > self._bound.get(transactional_id, -1):
            self._bound[transactional_id] = connection

    def forget(self, transactional_id: str) -> None:
        self._bound.pop(transactional_id, None)

    def turn_written(self) -> None:
        self._replaced.clear()

    def take_back(self) -> None:
        """InitProducerId of this turn has not happened."""
        for transactional_id, connection in self._replaced.items():
            if connection is None:
                self._bound.pop(transactional_id, None)
            else:
                self._bound[transactional_id] = connection
        self._replaced.clear()
