"""A key-value store on Ottla's consensus: the smallest useful `StateMachine`.

Every node applies the same commands in the same order, so every node holds the same values. Commands are proposed to
the quorum; a read needs no entry of the log: once the read barrier has passed, the node's own values are new enough.

    committed = await quorum.propose(encode(Append(b"names", b"Ada;")))
    Answer.decode(committed.result)  # Answer(Status.OK, length=4)
    await read(quorum, store, b"names")  # b"Ada;"
"""

from collections.abc import Callable

from examples.kv.commands import (
    Answer,
    Append,
    Command,
    CompareAndSet,
    Delete,
    Set,
    Status,
    decode,
    field,
    fields,
)
from ottla.core.types import NodeId
from ottla.raft.quorum import Entry, Quorum, Snapshot


class KeyValueStore:
    """The values, and nothing else: neither the log nor other nodes are its matter."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """As this node knows it. Linearizable only behind a read barrier: see `read`."""
        return self._values.get(key)

    def apply(self, entry: Entry) -> bytes:
        """No bytes in the log can make this raise: a node must not fail over what another one proposed."""
        try:
            command = decode(entry.data)
        except ValueError:
            return Answer(Status.INVALID).encode()
        return self._execute(command).encode()

    def snapshot(self) -> Callable[[], bytes]:
        frozen = dict(self._values)  # values are immutable: this copies references only
        return lambda: b"".join(field(part) for item in sorted(frozen.items()) for part in item)

    def restore(self, snapshot: Snapshot) -> None:
        parts = iter(list(fields(snapshot.data, 0)))
        self._values = dict(zip(parts, parts, strict=True))

    def leadership_changed(self, leader: NodeId | None, term: int) -> None:
        """Who leads is of no interest to the values."""

    def _execute(self, command: Command) -> Answer:
        values = self._values
        match command:
            case Set(key, value):
                values[key] = value
            case Delete(key):
                if values.pop(key, None) is None:
                    return Answer(Status.ABSENT)
            case CompareAndSet(key, expected, value):
                if values.get(key) != expected:
                    return Answer(Status.MISMATCH)
                values[key] = value
            case Append(key, suffix):
                values[key] = values.get(key, b"") + suffix
                return Answer(Status.OK, len(values[key]))
        return Answer(Status.OK)


async def read(quorum: Quorum, store: KeyValueStore, key: bytes) -> bytes | None:
    """A linearizable read of a node's own store. Raises NotLeader as the barrier does: then ask again."""
    await quorum.read_barrier()
    return store.get(key)
