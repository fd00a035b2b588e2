"""The port `Worker`: one child process of low priority, started with the first call and ended when it has rested.

Calls and results go through its standard streams as pickles: both ends are this program, on one machine, over an
inherited pipe. The child ends when the pipe closes, so it never outlives the node. One thread of the node waits for
it; that thread sleeps in a system call.
"""

import asyncio
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, Final, TypeVar

from ottla.adapters.files import OsFiles

T = TypeVar("T")

REST_S: Final = 30.0
NICENESS: Final = 10
_LENGTH_BYTES: Final = 8


class WorkerDied(Exception):
    """The child process ended in the middle of a call."""


class WorkerProcess:
    """Runs functions in a child process, one at a time, on behalf of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, root: str) -> None:
        self._loop, self._root = loop, root
        self._calls: SimpleQueue[tuple[bytes, Callable[[Any, Exception | None], None]] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def submit(
        self, function: Callable[..., T], arguments: tuple[Any, ...], done: Callable[[T | None, Exception | None], None]
    ) -> None:
        self._calls.put((pickle.dumps((self._root, function, arguments)), done))
        if self._thread is None:
            self._thread = Thread(target=self._run, name="worker", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the child, in the middle of a call too; the call's work is left as a crash would leave it."""
        self._calls.put(None)
        process = self._process
        if process is not None:
            process.kill()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                item = self._calls.get(timeout=REST_S if self._process is not None else None)
            except Empty:
                self._end()
                continue
            if item is None:
                self._end()
                return
            call, done = item
            result, failure = None, None
            try:
                result, failure = self._call(call)
            except Exception as error:
                failure = error
                self._end()
            try:
                self._loop.call_soon_threadsafe(done, result, failure)
            except RuntimeError:
                if not self._loop.is_closed():
                    raise

    def _call(self, call: bytes) -> tuple[Any, Exception | None]:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "ottla.adapters.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin, call)
        except BrokenPipeError as error:
            raise WorkerDied("the worker process ended before the call") from error
        answer = _read(process.stdout)
        if answer is None:
            raise WorkerDied(f"the worker process ended during a call (exit status {process.wait()})")
        outcome: tuple[Any, Exception | None] = pickle.loads(answer)
        return outcome

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def _write(stream: BinaryIO | Any, message: bytes) -> None:
    stream.write(len(message).to_bytes(_LENGTH_BYTES, "big") + message)
    stream.flush()


def _read(stream: BinaryIO | Any) -> bytes | None:
    length = stream.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        return None
    size = int.from_bytes(length, "big")
    message = stream.read(size)
    return message if len(message) == size else None


def serve() -> None:
    """The child's side: answer calls until the pipe closes."""
    os.nice(NICENESS)
    while (message := _read(sys.stdin.buffer)) is not None:
        root, function, arguments = pickle.loads(message)
        result, failure = None, None
        try:
            result = function(OsFiles(root), *arguments, time.sleep)
        except Exception as error:
            failure = error
        try:
            answer = pickle.dumps((result, failure))
        except Exception:
            answer = pickle.dumps((None, WorkerDied(repr(failure))))
        try:
            _write(sys.stdout.buffer, answer)
        except BrokenPipeError:  # the node was killed meanwhile; to flush at the end would fail as well
            os._exit(0)


if __name__ == "__main__":
    serve()
