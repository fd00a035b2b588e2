"""A disk for tests: jobs run on the loop, on simulated files; a power cut swallows everything after it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ottla.core.ports import File
from ottla.testing.sim.files import PowerCut, SimFiles

T = TypeVar("T")


class LoopDisk:
    """The port `Disk`."""

    def __init__(self, files: SimFiles | None = None) -> None:
        self.files = files or SimFiles()
        self.jobs = 0
        self.dead = False

    def stopped(self) -> bool:
        """Whether the power was cut."""
        return self.dead

    def submit(self, job: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        self.jobs += 1
        asyncio.get_running_loop().call_soon(self._run, job, done)

    def _run(self, job: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        if self.dead:
            return
        result: T | None = None
        failure: Exception | None = None
        try:
            result = job()
        except PowerCut:
            self.dead = True
            return
        except Exception as error:
            failure = error
        asyncio.get_running_loop().call_soon(done, result, failure)

    def notify(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def read_cached(self, file: File, length: int, position: int) -> bytes | None:
        return None
