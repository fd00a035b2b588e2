"""The ports on which everything that decides runs: clock, random numbers, disk, worker.

In production they are the event loop, files and a pool of threads (`ottla.adapters`); in the simulator a virtual clock
and a disk that loses unsynced bytes and tears writes at a crash (`ottla.testing.sim`). Nothing above a port knows
threads: a job submitted to the disk reports its end as an event on the caller's own loop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ottla.core.types import Buffer, NodeId

T = TypeVar("T")


class Timer(Protocol):
    """A callback that is to run later."""

    def cancel(self) -> None:
        """Forget the callback; nothing happens when it ran already."""


class Clock(Protocol):
    """Time, and the loop's timers."""

    def time_ms(self) -> int:
        """Wall clock: milliseconds since 1970. May jump."""

    def monotonic_ms(self) -> float:
        """Milliseconds from an arbitrary start; never goes back."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> object:
        """Run the callback in a later turn of the loop."""

    def call_later(self, delay_ms: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """Run the callback after `delay_ms`."""


class Random(Protocol):
    """The part of `random.Random` that Ottla uses."""

    def random(self) -> float: ...
    def randrange(self, start: int, stop: int, /) -> int: ...
    def randbytes(self, n: int, /) -> bytes: ...


class File(Protocol):
    """An open file. Every method may block: call them in a job, in recovery at start, or in a worker process."""

    def pread(self, length: int, position: int) -> bytes:
        """At most `length` bytes; fewer only at the end of the file."""

    def pwritev(self, buffers: Sequence[Buffer], position: int, *, sync: bool = False) -> None:
        """Write all of `buffers`, one after the other; raises OSError when not all could be written.

        With `sync`, these bytes and the file's size are on stable storage when it returns (one system call where the
        platform has it, so that a thread needs the interpreter's lock only once). Earlier unsynced bytes need not be.
        """

    def sync(self) -> None:
        """Return when all written bytes and the file's size are on stable storage."""

    def forget(self, position: int, length: int) -> None:
        """Nobody is going to read these synced bytes soon: the page cache need not keep them. A hint, no more."""

    def truncate(self, size: int) -> None: ...
    def allocate(self, position: int, length: int) -> None:
        """Reserve blocks; grows the file with zeros."""

    def size(self) -> int: ...
    def close(self) -> None: ...


class Files(Protocol):
    """The file system. Every method may block. Paths are absolute or relative to the data directory."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing; FileNotFoundError unless `create`."""

    def exists(self, path: str) -> bool: ...
    def size(self, path: str) -> int: ...
    def list_directory(self, path: str) -> list[str]: ...
    def make_directory(self, path: str) -> None:
        """With its parents; nothing happens when it exists."""

    def rename(self, source: str, target: str) -> None:
        """Atomic; durable only after `sync_directory` of the parent."""

    def remove(self, path: str) -> None: ...
    def remove_tree(self, path: str) -> None: ...
    def sync_directory(self, path: str) -> None:
        """Make the names in this directory durable: new files, renames, removals."""

    def read_bytes(self, path: str) -> bytes: ...
    def write_atomically(self, path: str, content: bytes) -> None:
        """New content under `path`, durable, or the old one (temporary file, sync, rename, sync of the directory)."""


class Disk(Protocol):
    """Files, and the way to use them without holding up the loop."""

    @property
    def files(self) -> Files: ...

    def submit(self, job: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        """Run `job` off the loop; then `done(result, None)` or `done(None, error)` on the loop.

        Jobs may run at the same time and in any order; whoever needs an order submits the next job in `done`.
        Completions of several jobs are delivered together, in one turn of the loop.
        """

    def notify(self, callback: Callable[[], None]) -> None:
        """From within a job: run `callback` on the loop soon, before the job's own `done`."""

    def read_cached(self, file: File, length: int, position: int) -> Buffer | None:
        """Bytes that the page cache holds, without blocking; None when the disk would have to be read.

        Fewer than `length` at the end of the file, or where the cached range ends.
        """


class Worker(Protocol):
    """What burns processor time beside the loop: in production one child process of low priority."""

    def submit(
        self, function: Callable[..., T], arguments: tuple[Any, ...], done: Callable[[T | None, Exception | None], None]
    ) -> None:
        """Run `function(files, *arguments, pause)` elsewhere, one call at a time; then `done` on the loop.

        The function is a module's own and its arguments can be pickled; `files` is the worker's view of the same
        data directory, `pause(seconds)` lets it work at a bounded rate.
        """


class MeshEvents(Protocol):
    """What the user of a mesh hears, on its loop."""

    def linked(self, node: NodeId) -> None:
        """From now on frames pass between this node and that one."""

    def unlinked(self, node: NodeId, *, broken: bool) -> None:
        """No frames pass any more, and what was on its way is lost. `broken`: the other side hung up or died; else it
        was silent for too long, or this side ended it.
        """

    def refused(self, node: NodeId) -> None:
        """Nothing listens where that node should be."""

    def received(self, node: NodeId, frame: bytes) -> None:
        """A frame, in the order in which it was sent on the present link."""


class Mesh(Protocol):
    """One authenticated stream of frames between each pair of nodes that have to do with each other."""

    def attach(self, events: MeshEvents) -> None:
        """Tell `events` from now on; links that stand already are told of at once."""

    def reach_also(self, endpoints: Mapping[NodeId, str]) -> None:
        """Keep links with these nodes too, at these endpoints, besides those of the quorum."""

    def is_linked(self, node: NodeId) -> bool: ...

    def send_frame(self, node: NodeId, frame: bytes) -> bool:
        """Queue a frame; False when there is no link, or too much waits for it."""


class Channel(Protocol):
    """An open stream of bytes to another process."""

    @property
    def queued_bytes(self) -> int:
        """What was sent and the other side's machine has not taken yet."""

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Queue bytes, in order; nothing happens when the channel is closed. The buffers must not change any more."""

    def close(self) -> None:
        """End it when everything queued has left."""

    def abort(self) -> None:
        """End it now."""


class Receiver(Protocol):
    """What the user of a channel hears, on its loop. Bytes are received straight into its own memory."""

    def opened(self, channel: Channel) -> None: ...
    def buffer(self) -> memoryview:
        """Where the next bytes go; not empty."""

    def received(self, count: int) -> None:
        """`count` bytes are in the buffer."""

    def drained(self) -> None:
        """Little is queued again, after much was."""

    def closed(self, error: Exception | None) -> None:
        """No more, whoever ended it; also when the channel could not be opened. Comes once, and last."""


class Listener(Protocol):
    """A place where channels are accepted."""

    @property
    def port(self) -> int: ...
    def close(self) -> None:
        """Accept no more; what is open stays open."""


class Network(Protocol):
    """Streams between processes."""

    def connect(self, host: str, port: int, receiver: Receiver) -> None:
        """Open a channel: `receiver.opened`, or `closed` when nobody is there."""

    def listen(self, host: str, port: int, accept: Callable[[str], Receiver]) -> Listener:
        """Accept channels; `accept(peer's address)` gives each its receiver. Port 0: any that is free; OSError."""
