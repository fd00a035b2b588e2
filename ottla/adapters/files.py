"""The ports `File` and `Files` on the operating system's files, below one data directory."""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from ottla.core.types import Buffer

_IOV_MAX = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 1024
_DSYNC: Final = getattr(os, "RWF_DSYNC", 0)
_FORGET: Final = getattr(os, "POSIX_FADV_DONTNEED", None)
_FOLIO_BYTES: Final = 2 << 20  # the largest there is where a page has 4 KiB


def _full_sync(fd: int) -> None:
    """macOS: fsync leaves the bytes in the drive's own cache."""
    fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]


_sync: Callable[[int], None] = _full_sync if sys.platform == "darwin" else os.fdatasync


class OsFile:
    """An open file descriptor."""

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd, self.path = fd, path

    def pread(self, length: int, position: int) -> bytes:
        data = os.pread(self.fd, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        missing = length - len(data)
        while missing and (data := os.pread(self.fd, missing, position + length - missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def pwritev(self, buffers: Sequence[Buffer], position: int, *, sync: bool = False) -> None:
        try:
            self._pwritev(buffers, position, sync)
        except OSError as error:
            error.filename = self.path  # what fails on a descriptor names no file, and somebody has to find it
            raise

    def _pwritev(self, buffers: Sequence[Buffer], position: int, sync: bool) -> None:
        flags = _DSYNC if sync else 0
        for start in range(0, len(buffers), _IOV_MAX):
            window = buffers if len(buffers) <= _IOV_MAX else buffers[start : start + _IOV_MAX]
            size = sum(map(len, window))
            written = os.pwritev(self.fd, window, position, flags) if flags else os.pwritev(self.fd, window, position)
            if written != size:
                self._write_rest(window, written, position, flags)
            position += size
        if sync and not _DSYNC:
            _sync(self.fd)

    def _write_rest(self, buffers: Sequence[Buffer], written: int, position: int, flags: int) -> None:
        rest = memoryview(b"".join(buffers))
        while written < len(rest):
            step = os.pwritev(self.fd, [rest[written:]], position + written, flags)
            if step <= 0:
                raise OSError(f"{self.path}: wrote nothing at {position + written}")
            written += step

    def sync(self) -> None:
        try:
            _sync(self.fd)
        except OSError as error:
            error.filename = self.path
            raise

    def forget(self, position: int, length: int) -> None:
        if _FORGET is not None:
            # Pages of a large folio go together, and one that reaches beyond the range stays: begin before it, so that
            # what the call before had to leave goes with this one.
            start = max(0, position - _FOLIO_BYTES)
            with suppress(OSError):
                os.posix_fadvise(self.fd, start, position + length - start, _FORGET)

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def allocate(self, position: int, length: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self.fd, position, length)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class OsFiles:
    """Files below `root`; absolute paths are taken as they are."""

    def __init__(self, root: str) -> None:
        self.root = root

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path)

    def open(self, path: str, *, create: bool = False) -> OsFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        full = self._path(path)
        return OsFile(os.open(full, flags, 0o644), full)

    def exists(self, path: str) -> bool:
        return os.path.exists(self._path(path))

    def size(self, path: str) -> int:
        return os.stat(self._path(path)).st_size

    def list_directory(self, path: str) -> list[str]:
        return sorted(os.listdir(self._path(path)))

    def make_directory(self, path: str) -> None:
        os.makedirs(self._path(path), exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        os.replace(self._path(source), self._path(target))

    def remove(self, path: str) -> None:
        os.unlink(self._path(path))

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(self._path(path))

    def sync_directory(self, path: str) -> None:
        fd = os.open(self._path(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read_bytes(self, path: str) -> bytes:
        with open(self._path(path), "rb") as file:
            return file.read()

    def write_atomically(self, path: str, content: bytes) -> None:
        temporary = path + ".tmp"
        try:
            file = self.open(temporary, create=True)
            try:
                file.truncate(0)
                file.pwritev([content], 0)
                file.sync()
            finally:
                file.close()
            self.rename(temporary, path)
        except OSError:
            with suppress(OSError):
                self.remove(temporary)
            raise
        self.sync_directory(os.path.dirname(path))
