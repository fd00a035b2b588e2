"""A process at a node's place, as a nemesis sees one: it writes, syncs, reads, tells the time, and sends to the others.

time                ──▶ seconds since 1970
sync PATH           ──▶ seconds that a write and a sync took, or the error
read PATH           ──▶ what is there, or the error
send HOST COUNT     ──▶ sent (UDP packets with this process's name)
heard               ──▶ NAME:COUNT … since the last time

python probe.py NAME HOST
"""

import os
import socket
import sys
import time
from collections import Counter

PORT = 9999


def answer(words: list[str], endpoint: socket.socket, name: str) -> str:
    match words:
        case ["time"]:
            return repr(time.time())
        case ["sync", path]:
            begun = time.monotonic()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
            try:
                os.pwrite(descriptor, b"written", 0)
                os.fsync(descriptor)
            except OSError as error:
                return str(error.errno)
            finally:
                os.close(descriptor)
            return repr(time.monotonic() - begun)
        case ["read", path]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                return os.pread(descriptor, 100, 0).decode()
            except OSError as error:
                return str(error.errno)
            finally:
                os.close(descriptor)
        case ["send", host, count]:
            for _ in range(int(count)):
                endpoint.sendto(f"{name} {time.monotonic()}".encode(), (host, PORT))
            return "sent"
        case ["heard"]:
            heard, late = Counter[str](), 0.0
            while True:
                try:
                    sender, sent_at = endpoint.recv(100).decode().split()
                except BlockingIOError:
                    return f"{late} {' '.join(f'{who}:{count}' for who, count in heard.items())}"
                heard[sender] += 1
                late = max(late, time.monotonic() - float(sent_at))
        case _:
            raise ValueError(words)


def main(name: str, host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        endpoint.bind((host, PORT))
        endpoint.setblocking(False)
        for line in sys.stdin:
            sys.stdout.write(answer(line.split(), endpoint, name) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
