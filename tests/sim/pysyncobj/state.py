"""What both systems replicate: the key-value store, and the list of all commands that led to it.

A command is a unique name, a separator, and either a read (which goes through the log like a write) or one of the
store's own commands.
"""

from examples.kv.store import KeyValueStore
from ottla.raft.quorum import Entry

READ = b"read "
SEPARATOR = b"|"


class State:
    """Plain, so that it can be pickled into a snapshot."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.store = KeyValueStore()

    def execute(self, command: bytes) -> bytes:
        self.applied.append(command)
        _, _, request = command.partition(SEPARATOR)
        if request.startswith(READ):
            value = self.store.get(request[len(READ) :])
            return b"=" + value if value is not None else b"-"
        return self.store.apply(Entry(len(self.applied), 0, request))
