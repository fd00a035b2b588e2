"""The replicated state of the simulated clusters: the example's key-value store, watched.

Every node tells the record of the whole run what it applies and answers; the record knows when two of them differ.
"""

from bisect import bisect_right, insort
from collections.abc import Callable
from hashlib import blake2b

from examples.kv.commands import Delete, decode
from examples.kv.store import KeyValueStore
from ottla.core.types import NodeId
from ottla.raft.quorum import Entry, Snapshot
from tests.sim.raft.violation import Violation


class Applied:
    """What the state machines of all nodes have applied: the same entries in the same order with the same results."""

    def __init__(self) -> None:
        self.results: dict[int, tuple[int, bytes, bytes]] = {}  # by index: (term, data, result)
        self.index_of: dict[bytes, int] = {}  # of every proposal that is unique by its bytes
        self._order: list[int] = []
        self._after: dict[int, int] = {}  # the chain of indexes: which one follows
        self._states: dict[int, bytes] = {}  # digest of the state by index

    def applied(self, node: NodeId, before: int, entry: Entry, result: bytes) -> None:
        """`before` is the index that this node applied before `entry`, or 0."""
        told = (entry.term, entry.data, result)
        known = self.results.setdefault(entry.index, told)
        if known is told:
            insort(self._order, entry.index)
            self._note_once(node, entry)
        elif known != told:
            raise Violation("state-machine safety", f"node {node} applied {told} at {entry.index}, another one {known}")
        if self._after.setdefault(before, entry.index) != entry.index:
            raise Violation(
                "state-machine safety",
                f"node {node} applied {entry.index} after {before}, another one {self._after[before]}",
            )

    def _note_once(self, node: NodeId, entry: Entry) -> None:
        if isinstance(decode(entry.data), Delete):
            return
        first = self.index_of.setdefault(entry.data, entry.index)
        if first != entry.index:
            raise Violation("applied once", f"node {node} applied the proposal of entry {first} again at {entry.index}")

    def last_at(self, index: int) -> int:
        """The last index that state machines were shown, up to this one."""
        at = bisect_right(self._order, index)
        return self._order[at - 1] if at else 0

    def state(self, node: NodeId, index: int, state: bytes) -> None:
        """A snapshot that a node took or restored after what it was shown up to `index`."""
        digest = blake2b(state, digest_size=16).digest()
        if self._states.setdefault(self.last_at(index), digest) != digest:
            raise Violation("state-machine safety", f"node {node} has another state at {index}")


class WatchedStore(KeyValueStore):
    """One node's."""

    def __init__(self, node: NodeId, record: Applied) -> None:
        super().__init__()
        self.applied_index = 0
        self.restored_index = 0
        self.leaderships: list[tuple[NodeId | None, int]] = []
        self.failure: Violation | None = None
        self._node, self._record = node, record

    def apply(self, entry: Entry) -> bytes:
        result = super().apply(entry)
        self._check(lambda: self._record.applied(self._node, self.applied_index, entry, result))
        self.applied_index = entry.index
        return result

    def snapshot(self) -> Callable[[], bytes]:
        encode = super().snapshot()
        state = encode()
        self._check(lambda: self._record.state(self._node, self.applied_index, state))
        return lambda: state

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        self._check(lambda: self._record.state(self._node, snapshot.index, snapshot.data))
        self.applied_index = self._record.last_at(snapshot.index)
        self.restored_index = snapshot.index

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        self.leaderships.append((leader, term))

    def _check(self, check: Callable[[], None]) -> None:
        """Production code may catch what a state machine raises: so it is kept, too, for whoever looks next."""
        try:
            check()
        except Violation as violation:
            self.failure = self.failure or violation
            raise
