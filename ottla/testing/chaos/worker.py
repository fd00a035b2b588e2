"""One process of clients: `python -m ottla.testing.chaos.worker TASK`. It is told what to do on standard input.

`calm` ends the sources, `finish` the rest; it ends when all have finished. When its input ends, whoever began it is
gone, and it ends at once.
"""

import asyncio
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from ottla.testing.chaos.clients import open_library
from ottla.testing.chaos.clients.port import Address
from ottla.testing.chaos.workloads.plan import Role, workloads
from ottla.testing.chaos.workloads.scene import Scene
from ottla.testing.history import Recorder

CALM: Final = "calm"
FINISH: Final = "finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is begun with."""

    library: str
    address: Address
    prefix: str
    role: Role
    workloads: tuple[str, ...]
    seed: int
    history: Path

    def text(self) -> str:
        """For the command line."""
        return json.dumps({**asdict(self), "history": str(self.history)})

    @classmethod
    def parse(cls, text: str) -> "Task":
        """What `text` gave."""
        told = json.loads(text)
        address, role, history = Address(**told.pop("address")), Role(told.pop("role")), Path(told.pop("history"))
        return cls(address=address, role=role, history=history, workloads=tuple(told.pop("workloads")), **told)


async def work(task: Task) -> None:
    """Do it until it is finished."""
    library = open_library(task.library, task.address)
    with Recorder(task.history, task.role) as recorder:
        scene = Scene(library=library, recorder=recorder, prefix=task.prefix, role=task.role, random=Random(task.seed))
        listening = asyncio.create_task(_listen(scene))
        try:
            async with asyncio.TaskGroup() as actors:
                for workload in workloads(task.workloads):
                    for actor in workload.actors(task.role):
                        actors.create_task(_act(actor(scene)))
        finally:
            listening.cancel()
            await library.close()


async def _act(actor: object) -> None:
    await actor  # type: ignore[misc]


async def _listen(scene: Scene) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        if line == CALM:
            scene.calm.set()
        elif line == FINISH:
            scene.calm.set()
            scene.finish.set()
    os._exit(3)


def main() -> None:
    """The process."""
    # What libraries complain of is kept beside the history.
    logging.basicConfig(format="%(asctime)s.%(msecs)03d %(name)s %(message)s", level=logging.WARNING)
    asyncio.run(work(Task.parse(sys.argv[1])))
    os._exit(0)  # a thread whose library never comes back is not waited for


if __name__ == "__main__":
    main()
