"""So many bytes a second for all partitions of a flow together."""

import asyncio
from typing import Final

_BURST_S: Final = 0.1


class Throttle:
    """Who has copied something waits until the time that it may take is over. No rate: nobody waits."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second
        self._free_at = 0.0

    async def took(self, size: int) -> None:
        """Return when more may be copied."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._rate
        if self._free_at - now > _BURST_S:
            await asyncio.sleep(self._free_at - now)
