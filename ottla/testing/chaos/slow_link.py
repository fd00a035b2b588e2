"""Links that delay and lose: what the kernel routes into a tunnel comes out of the real device later, or never.

A process of its own at the sender's place shovels the packets, so that nothing waits for the run's event loop. It reads
the shapes from its standard input, one JSON object a line, and ends with it. It is started by its path and imports
nothing of Ottla, so that it is there within a few hundredths of a second.
"""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Of one direction. `jitter_ms` is added to the delay at random, so that packets overtake each other."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0  # the share of packets that are lost
    repeats: float = 0.0  # the share of packets that come twice

    def __str__(self) -> str:
        parts = []
        if self.delay_ms or self.jitter_ms:
            jitter = f" to {self.delay_ms + self.jitter_ms:g}" if self.jitter_ms else ""
            parts.append(f"{self.delay_ms:g}{jitter} ms late")
        if self.loss:
            parts.append(f"{self.loss:.0%} lost")
        if self.repeats:
            parts.append(f"{self.repeats:.0%} twice")
        return ", ".join(parts)


class SlowLinks:
    """Those of one sender. `entering`: the words before a command that bring it there."""

    def __init__(self, entering: Sequence[str], *, tunnel: str, device: str) -> None:
        """Starts the process and waits until it shovels."""
        command = [*entering, sys.executable, "-I", "-S", __file__, tunnel, device]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._output.readline() != "ready\n":
            self.close()
            raise RuntimeError("the process of the slow links did not start")

    def shape(self, receiver: str, shape: Shape) -> None:
        """What goes to that address is treated so from now on; there before this returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"to": receiver, **asdict(shape)}) + "\n")
        self._process.stdin.flush()
        self._output.readline()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout


def _shovel(tunnel_name: str, device: str) -> None:
    """The process."""
    import fcntl
    import heapq
    import os
    import selectors
    import socket
    import struct
    import time

    tun_set_interface, tun_mode, no_header = 0x400454CA, 0x0001, 0x1000
    tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tunnel, tun_set_interface, struct.pack("16sH22x", tunnel_name.encode(), tun_mode | no_header))
    # Bound to the device, it does not take the route into the tunnel again.
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)

    shapes: dict[str, Shape] = {}
    waiting: list[tuple[float, int, str, bytes]] = []
    sequence = 0
    with selectors.DefaultSelector() as selector:
        selector.register(tunnel, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        _say("ready")
        while True:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, receiver, packet = heapq.heappop(waiting)
                try:
                    out.sendto(packet, (receiver, 0))
                except OSError:
                    continue  # the device takes no more: as a wire, it loses
            for key, _ in selector.select(waiting[0][0] - now if waiting else None):
                if key.fd != tunnel:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    told = json.loads(line)
                    receiver = told.pop("to")
                    shapes[receiver] = Shape(**told)
                    _say("shaped")
                    continue
                for _ in range(64):
                    try:
                        packet = os.read(tunnel, 1 << 16)
                    except BlockingIOError:
                        break
                    receiver = socket.inet_ntoa(packet[16:20])
                    shape = shapes.get(receiver)
                    if packet[0] >> 4 != 4 or shape is None or random.random() < shape.loss:
                        continue
                    for _ in range(1 + (random.random() < shape.repeats)):
                        late_ms = shape.delay_ms + random.random() * shape.jitter_ms
                        sequence += 1
                        heapq.heappush(waiting, (time.monotonic() + late_ms / 1000, sequence, receiver, packet))


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _shovel(*sys.argv[1:])
