"""Files that behave as real ones may at a power cut: what was not synced is lost, kept or torn at 512-byte sectors.

A file's unsynced writes survive sector by sector as chance has it; names (new files, renames, removals) survive only
what `sync_directory` made durable, and any part of the rest. A failed sync marks the pages as clean, as Linux does:
they can still be read, a later sync says nothing, and a power cut loses them.
"""

from collections.abc import Callable, Iterator, Sequence

from ottla.core.ports import Random
from ottla.core.types import Buffer

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """The machine stops in the middle of an operation. Not an Exception: no handler on the way may go on."""


class ShortWrite(OSError):
    """A write that fails in its middle: about `part` of the bytes, 0 to 1, are in the file."""

    part = 0.0


class Inode:
    """Content of a file: what is read now, what is on the platter, what lies between."""

    __slots__ = ("content", "durable", "unsynced")

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.unsynced: list[tuple[int, bytes | None]] = []  # (position, data), or (size, None): truncated

    def write(self, position: int, data: bytes) -> None:
        _put(self.content, position, data)
        self.unsynced.append((position, data))

    def truncate(self, size: int) -> None:
        _resize(self.content, size)
        self.unsynced.append((size, None))

    def sync(self) -> None:
        for position, data in self.unsynced:
            _resize(self.durable, position) if data is None else _put(self.durable, position, data)
        self.unsynced.clear()

    def fail_sync(self) -> None:
        """The writes are no dirty pages any more, nothing brings them to the platter. Sizes are journaled apart."""
        self.unsynced = [(size, data) for size, data in self.unsynced if data is None]

    def after_power_cut(self) -> "Inode":
        """A copy of what is durable."""
        copy = Inode()
        copy.durable, copy.content = bytearray(self.durable), bytearray(self.durable)
        return copy

    def crash(self, random: Random) -> None:
        for position, data in self.unsynced:
            if data is None:
                if random.random() < 0.5:
                    _resize(self.durable, position)
                continue
            fate = random.random()
            if fate < 0.3:
                continue
            if fate < 0.5:
                _put(self.durable, position, data)
                continue
            if fate < 0.6:  # the size came through, the bytes did not
                if len(self.durable) < position + len(data):
                    _resize(self.durable, position + len(data))
                continue
            for start, end in _sectors(position, len(data)):
                if random.random() < 0.5:
                    _put(self.durable, start, data[start - position : end - position])
        self.unsynced.clear()
        self.content = bytearray(self.durable)


class Directory:
    """Names: as they are now, as they are on the platter, and the changes between."""

    __slots__ = ("durable", "entries", "pending")

    def __init__(self) -> None:
        self.entries: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self.pending: list[dict[str, Node | None]] = []  # each change is atomic

    def change(self, change: "dict[str, Node | None]") -> None:
        _apply(self.entries, change)
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def after_power_cut(self) -> "Directory":
        """A copy of what is durable."""
        copy = Directory()
        copy.durable = {name: node.after_power_cut() for name, node in self.durable.items()}
        copy.entries = dict(copy.durable)
        return copy

    def crash(self, random: Random) -> None:
        in_order = random.random() < 0.5
        keep = random.randrange(0, len(self.pending) + 1)
        for n, change in enumerate(self.pending):
            if n < keep if in_order else random.random() < 0.5:
                _apply(self.durable, change)
        self.pending.clear()
        self.entries = dict(self.durable)
        for node in self.entries.values():
            node.crash(random)


Node = Inode | Directory


class SimFile:
    """The port `File` on an inode."""

    __slots__ = ("_files", "inode", "path")

    def __init__(self, files: "SimFiles", inode: Inode, path: str) -> None:
        self._files, self.inode, self.path = files, inode, path

    def pread(self, length: int, position: int) -> bytes:
        self._files.happens("read", self.path)
        return bytes(self.inode.content[position : position + length])

    def forget(self, position: int, length: int) -> None:
        """There is no page cache that holds synced bytes apart from the disk."""

    def pwritev(self, buffers: Sequence[Buffer], position: int, *, sync: bool = False) -> None:
        for buffer in buffers:
            try:
                self._files.happens("write", self.path)
            except ShortWrite as error:
                self.inode.write(position, bytes(buffer)[: self._cut_short(position, int(len(buffer) * error.part))])
                raise
            self.inode.write(position, bytes(buffer))
            position += len(buffer)
        if sync:
            self.sync()

    def _cut_short(self, position: int, length: int) -> int:
        """Where bytes are overwritten, whole sectors are: the end of what a failing write changes is one of theirs."""
        end = position + length
        if end < len(self.inode.content):
            end -= end % SECTOR_BYTES
        return max(0, end - position)

    def sync(self) -> None:
        try:
            self._files.happens("sync", self.path)
        except OSError:
            self.inode.fail_sync()
            raise
        self._files.syncs += 1
        self.inode.sync()

    def truncate(self, size: int) -> None:
        self._files.happens("truncate", self.path)
        self.inode.truncate(size)

    def allocate(self, position: int, length: int) -> None:
        self._files.happens("allocate", self.path)
        if position + length > len(self.inode.content):
            self.inode.truncate(position + length)

    def size(self) -> int:
        return len(self.inode.content)

    def close(self) -> None:
        pass


class SimFiles:
    """The port `Files` in memory. `before` sees each operation and may raise OSError or PowerCut in its place."""

    def __init__(self) -> None:
        self.root = Directory()
        self.before: Callable[[str, str], None] | None = None
        self.operations = 0
        self.syncs = 0  # what is durable changes only when this does, or at a crash

    def happens(self, operation: str, path: str) -> None:
        self.operations += 1
        if self.before is not None:
            self.before(operation, path)

    def crash(self, random: Random) -> None:
        """The power is cut and comes back: only what is durable is left, and chance adds some of the rest."""
        self.syncs += 1
        self.root.crash(random)

    def after_power_cut(self) -> "SimFiles":
        """A copy of what a power cut would leave at the least: only what is durable."""
        copy = SimFiles()
        copy.root = self.root.after_power_cut()
        return copy

    def flip_bit(self, path: str, random: Random) -> bool:
        """The medium decays: one bit of a file that is synced is another one. What ends it, zeros, is left alone.

        False when there is nothing to damage.
        """
        inode = self._inode(path)
        used = len(inode.durable.rstrip(b"\0"))
        if inode.unsynced or not used:
            return False
        position, bit = random.randrange(0, used), 1 << random.randrange(0, 8)
        inode.durable[position] ^= bit
        inode.content[position] ^= bit
        self.syncs += 1
        return True

    def open(self, path: str, *, create: bool = False) -> SimFile:
        self.happens("open", path)
        parent, name = self._parent(path)
        inode = parent.entries.get(name)
        if inode is None:
            if not create:
                raise FileNotFoundError(path)
            inode = Inode()
            parent.change({name: inode})
        if isinstance(inode, Directory):
            raise IsADirectoryError(path)
        return SimFile(self, inode, path)

    def exists(self, path: str) -> bool:
        try:
            return self._node(path) is not None
        except FileNotFoundError:
            return False

    def size(self, path: str) -> int:
        return len(self._inode(path).content)

    def list_directory(self, path: str) -> list[str]:
        self.happens("list", path)
        return sorted(self._directory(path).entries)

    def make_directory(self, path: str) -> None:
        self.happens("mkdir", path)
        directory = self.root
        for part in path.split("/"):
            node = directory.entries.get(part)
            if node is None:
                node = Directory()
                directory.change({part: node})
            if not isinstance(node, Directory):
                raise FileExistsError(path)
            directory = node

    def rename(self, source: str, target: str) -> None:
        self.happens("rename", target)
        parent, name = self._parent(source)
        target_parent, target_name = self._parent(target)
        node = parent.entries.get(name)
        if node is None:
            raise FileNotFoundError(source)
        if target_parent is not parent:
            raise OSError(f"the simulator renames only within one directory: {source} to {target}")
        parent.change({name: None, target_name: node})

    def remove(self, path: str) -> None:
        self.happens("remove", path)
        self._inode(path)
        parent, name = self._parent(path)
        parent.change({name: None})

    def remove_tree(self, path: str) -> None:
        self.happens("remove_tree", path)
        self._directory(path)
        parent, name = self._parent(path)
        parent.change({name: None})

    def sync_directory(self, path: str) -> None:
        self.happens("sync_directory", path)
        self.syncs += 1
        self._directory(path).sync()

    def read_bytes(self, path: str) -> bytes:
        self.happens("read", path)
        return bytes(self._inode(path).content)

    def write_atomically(self, path: str, content: bytes) -> None:
        file = self.open(path + ".tmp", create=True)
        file.truncate(0)
        file.pwritev([content], 0)
        file.sync()
        self.rename(path + ".tmp", path)
        self.sync_directory(path.rpartition("/")[0])

    def _node(self, path: str) -> Node | None:
        if not path:
            return self.root
        parent, name = self._parent(path)
        return parent.entries.get(name)

    def _inode(self, path: str) -> Inode:
        node = self._node(path)
        if node is None:
            raise FileNotFoundError(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(path)
        return node

    def _directory(self, path: str) -> Directory:
        node = self._node(path)
        if node is None:
            raise FileNotFoundError(path)
        if not isinstance(node, Directory):
            raise NotADirectoryError(path)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        *parts, name = path.split("/")
        directory = self.root
        for part in parts:
            node = directory.entries.get(part)
            if not isinstance(node, Directory):
                raise FileNotFoundError(path)
            directory = node
        return directory, name


def _apply(entries: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _put(content: bytearray, position: int, data: bytes) -> None:
    if len(content) < position:
        content.extend(bytes(position - len(content)))
    content[position : position + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if len(content) > size:
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _sectors(position: int, length: int) -> Iterator[tuple[int, int]]:
    end = position + length
    while position < end:
        after = min((position // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        yield position, after
        position = after
