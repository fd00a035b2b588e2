"""The production disk and worker, on real files."""

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.adapters.disk import ThreadedDisk
from ottla.adapters.files import OsFiles
from ottla.adapters.worker import WorkerDied, WorkerProcess


def double(files: OsFiles, number: int, pause: Callable[[float], None]) -> int:
    pause(0)
    return 2 * number if files.exists("here") else -1


def refuse(files: OsFiles, pause: Callable[[float], None]) -> None:
    del files, pause
    raise ValueError("no")


def die(files: OsFiles, pause: Callable[[float], None]) -> None:
    del files, pause
    raise SystemExit(3)


def test_files_hold_many_buffers_at_their_position(tmp_path: Path) -> None:
    file = OsFiles(str(tmp_path)).open("a", create=True)
    buffers = [bytes([n % 251]) * 3 for n in range(5000)]  # more than one system call takes
    file.pwritev(buffers, 7, sync=True)
    assert file.pread(15_000, 7) == b"".join(buffers)
    assert file.size() == 15_007
    file.close()


def test_what_the_page_cache_forgets_stays_in_the_file(tmp_path: Path) -> None:
    file = OsFiles(str(tmp_path)).open("a", create=True)
    chunk = bytes(range(256)) * 1000
    for n in range(20):
        file.pwritev([chunk], n * len(chunk), sync=True)
        file.forget(n * len(chunk), len(chunk))
    assert file.pread(21 * len(chunk), 0) == 20 * chunk
    file.close()


def test_a_failed_write_names_its_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    file = OsFiles(str(tmp_path)).open("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        file.pwritev([b"x"], 0)
    file.close()


def test_a_replaced_file_is_whole(tmp_path: Path) -> None:
    files = OsFiles(str(tmp_path))
    for content in (b"long " * 100, b"short"):
        files.write_atomically("name", content)
        assert files.read_bytes("name") == content
    assert files.list_directory("") == ["name"]


def test_jobs_report_results_errors_and_notices_in_order_on_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        disk = ThreadedDisk(loop, str(tmp_path))
        heard: list[Any] = []
        finished = asyncio.Event()

        def job() -> int:
            disk.notify(lambda: heard.append("notice"))
            return 5

        def fail() -> None:
            raise OSError("no")

        def done(result: Any, error: Exception | None) -> None:
            heard.append((result, str(error)))
            finished.set()

        for work in (job, fail):
            disk.submit(work, done)
            await asyncio.wait_for(finished.wait(), 5)
            finished.clear()
        disk.close()
        assert heard == ["notice", (5, "None"), (None, "no")]

    asyncio.run(main())


def test_cached_bytes_are_read_without_a_thread(tmp_path: Path) -> None:
    async def main() -> None:
        disk = ThreadedDisk(asyncio.get_running_loop(), str(tmp_path))
        file = disk.files.open("a", create=True)
        file.pwritev([b"0123456789"], 0)
        assert disk.read_cached(file, 4, 3) in (b"3456", None)  # None where the file system cannot say
        disk.close()

    asyncio.run(main())


def test_the_worker_returns_results_and_errors_and_survives_a_death(tmp_path: Path) -> None:
    (tmp_path / "here").touch()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        worker = WorkerProcess(loop, str(tmp_path))

        async def call(function: Callable[..., Any], *arguments: Any) -> Any:
            future: asyncio.Future[Any] = loop.create_future()

            def done(result: Any, error: Exception | None) -> None:
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

            worker.submit(function, arguments, done)
            return await asyncio.wait_for(future, 20)

        assert await call(double, 21) == 42
        with pytest.raises(ValueError, match="no"):
            await call(refuse)
        with pytest.raises(WorkerDied):
            await call(die)
        assert await call(double, 4) == 8
        worker.close()

    asyncio.run(main())


def test_a_worker_whose_node_was_killed_ends_without_a_word(tmp_path: Path) -> None:
    call = pickle.dumps((str(tmp_path), double, (1,)))
    command = [sys.executable, "-m", "ottla.adapters.worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env={"PYTHONPATH": ":".join(sys.path)}
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        worker.stdout.close()
        worker.stdin.write(len(call).to_bytes(8, "big") + call)
        worker.stdin.flush()
        assert worker.stderr.read() == b""
        assert worker.wait() == 0
