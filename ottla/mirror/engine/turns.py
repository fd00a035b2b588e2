"""Who has much to write does so in the order in which it came, a few at a time.

If all wrote at once, all would be done late and together, and would then wait together for what comes next: memory full
while nothing is on the way, then the other way round. In turns, each gives its memory back early, and all the time some
are on the way while others are written.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

AT_ONCE: Final = 3  # while one waits for a disk, others have the processor
LEASE_S: Final = 1.0


class Turns:
    """`async with turns.turn(size):`. Who writes less than `much_bytes` does not wait.

    A turn that takes longer than the lease does not hold up the next ones: one partition's trouble is its own.
    """

    def __init__(self, much_bytes: int, *, at_once: int = AT_ONCE, lease_s: float = LEASE_S) -> None:
        self._much_bytes = much_bytes
        self._free = asyncio.Semaphore(at_once)
        self._lease_s = lease_s

    def turn(self, size_bytes: int) -> "Turn":
        """To be entered once."""
        return Turn(self._free if size_bytes >= self._much_bytes else None, self._lease_s)


class Turn:
    """One block's turn. `free`: None when it need not wait."""

    def __init__(self, free: asyncio.Semaphore | None, lease_s: float) -> None:
        self._free = free
        self._lease_s = lease_s
        self._lease: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if self._free is not None:
            await self._free.acquire()
            self._lease = asyncio.get_running_loop().call_later(self._lease_s, self.end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """It is the next one's turn; the block may go on."""
        lease, self._lease = self._lease, None
        if lease is not None and self._free is not None:
            lease.cancel()
            self._free.release()
