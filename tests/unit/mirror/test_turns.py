"""Large writes in turns."""

import asyncio

from ottla.mirror.engine.turns import Turn, Turns

MUCH = 1 << 20


class Writers:
    """Tasks that write until they are told to stop; `begun` has their names in order."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.begun: list[str] = []
        self.turns: dict[str, Turn] = {}
        self.has_begun: dict[str, asyncio.Event] = {}
        self._stops: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, size: int = MUCH) -> None:
        stop = self._stops[name] = asyncio.Event()
        begun = self.has_begun[name] = asyncio.Event()

        async def write() -> None:
            async with self._turns.turn(size) as self.turns[name]:
                self.begun.append(name)
                begun.set()
                await stop.wait()

        self._tasks[name] = asyncio.create_task(write())
        await turn_of_the_loop()

    async def stop(self, name: str) -> None:
        self._stops[name].set()
        await self._tasks[name]
        await turn_of_the_loop()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
        await turn_of_the_loop()

    async def close(self) -> None:
        for name in self._tasks:
            await self.cancel(name)


async def turn_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_large_writes_go_in_the_order_in_which_they_came_a_few_at_a_time() -> None:
    writers = Writers(Turns(MUCH, at_once=2))
    for name in "abcd":
        await writers.start(name)
    assert writers.begun == ["a", "b"]
    await writers.stop("b")
    assert writers.begun == ["a", "b", "c"]
    await writers.cancel("a")  # however it ends
    assert writers.begun == ["a", "b", "c", "d"]
    await writers.close()


async def test_a_small_write_does_not_wait() -> None:
    writers = Writers(Turns(MUCH, at_once=1))
    await writers.start("large")
    await writers.start("small", MUCH - 1)
    assert writers.begun == ["large", "small"]
    await writers.stop("small")
    await writers.start("next")
    assert writers.begun == ["large", "small"]  # what did not wait gives nothing free
    await writers.close()


async def test_a_turn_may_end_before_its_block_and_once_only() -> None:
    writers = Writers(Turns(MUCH, at_once=1))
    for name in "abc":
        await writers.start(name)
    writers.turns["a"].end()
    await turn_of_the_loop()
    assert writers.begun == ["a", "b"]
    await writers.stop("a")
    assert writers.begun == ["a", "b"]
    await writers.close()


async def test_who_takes_too_long_holds_up_nobody() -> None:
    writers = Writers(Turns(MUCH, at_once=1, lease_s=0.01))
    await writers.start("stuck")
    await writers.start("next")
    async with asyncio.timeout(30):
        await writers.has_begun["next"].wait()
    await writers.close()
