"""The port `Clock` on an asyncio (uvloop) event loop."""

import asyncio
from collections.abc import Callable
from time import monotonic, time_ns
from typing import Any

from ottla.core.ports import Timer


class LoopClock:
    """Wall and monotonic time of this host, timers of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.call_soon: Callable[..., object] = loop.call_soon

    def time_ms(self) -> int:
        return time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        return monotonic() * 1000

    def call_later(self, delay_ms: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        return self._loop.call_later(delay_ms / 1000, callback, *arguments)
