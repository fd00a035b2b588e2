"""What a process writes down of its sends is the order in which its client took them."""

import asyncio
from pathlib import Path
from typing import Any, cast

from ottla.testing.chaos.clients.port import At
from ottla.testing.chaos.workloads.scene import Log
from ottla.testing.history import Recorder


class Client:
    """Waits for the metadata of its first send, as aiokafka does; a second one finds them there."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._known = False

    async def send(self, _: At, value: str, __: str | None) -> "asyncio.Future[int]":
        if not self._known:
            self._known = True
            await asyncio.sleep(0.01)
        self.taken.append(value)
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        told.set_result(len(self.taken))
        return told


async def test_sends_beside_each_other_are_taken_in_the_order_in_which_they_are_written_down(tmp_path: Path) -> None:
    path, client = tmp_path / "one.history", Client()
    with Recorder(path) as recorder:
        log = Log(recorder, "setter")
        async with asyncio.TaskGroup() as writers:
            for value in ("a", "b", "c"):
                writers.create_task(log.send(cast(Any, client), At("t", 0), value))
    assert client.taken == ["a", "b", "c"]
