"""What one request costs the broker: `python -m bench.micro.door`.

A node of its own process, and a client that does as little as possible: frames made beforehand, written to a socket
with a fixed number in flight, answers counted by their lengths. Processor time is the node's alone.
"""

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ottla.protocol.apis import RequestHeader, encode_request_header
from ottla.protocol.message import Message
from ottla.protocol.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import Record, encode_batch

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOPIC = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro.door", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--in-flight", type=int, default=5)
    parser.add_argument("--connect", metavar="HOST:PORT:PID", help="a running node instead of one of its own")
    options = parser.parse_args()
    if options.connect:
        host, port, pid = options.connect.split(":")
        measure(host, int(port), int(pid), options.seconds, options.in_flight)
        return
    with node() as (host, port_number, pid_number):
        measure(host, port_number, pid_number, options.seconds, options.in_flight)


@contextmanager
def node() -> Iterator[tuple[str, int, int]]:
    """A node on a free port, with its data in a temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "ottla.cli.main", "up", "--port", "0", "--json", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "ready":
                    break
            else:
                raise RuntimeError("the node did not start")
            host, _, port = event["bootstrap"].rpartition(":")
            yield host, int(port), event["nodes"][0]["pid"]
        finally:
            process.terminate()
            process.wait(20)


class Client:
    """One connection."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()

    def frame(self, message: Message, version: int) -> bytes:
        body = encode_request_header(RequestHeader(message.API_KEY, version, 1, "bench")) + message.encode(version)
        return struct.pack(">i", len(body)) + body

    def send(self, frame: bytes) -> None:
        self._socket.sendall(frame)

    def answers(self) -> int:
        """Wait for answers; how many came."""
        count = 0
        while not count:
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise ConnectionError("the node closed the connection")
            self._received += piece
            position = 0
            while len(self._received) - position >= 4:
                (size,) = struct.unpack_from(">i", self._received, position)
                if len(self._received) - position - 4 < size:
                    break
                position += 4 + size
                count += 1
            del self._received[:position]
        return count

    def call(self, frame: bytes) -> None:
        self._socket.sendall(frame)
        self.answers()

    def run(self, frames: list[bytes], in_flight: int, seconds: float) -> int:
        """Send the frames in turn for that time; how many were answered."""
        for n in range(in_flight):
            self._socket.sendall(frames[n % len(frames)])
        sent, answered = in_flight, 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            count = self.answers()
            answered += count
            for _ in range(count):
                self._socket.sendall(frames[sent % len(frames)])
                sent += 1
        while answered < sent:
            answered += self.answers()
        return answered


def produce(index: int, count: int, size: int) -> ProduceRequest:
    now_ms = time.time_ns() // 1_000_000
    records = [Record(offset=n, timestamp=now_ms, key=None, value=os.urandom(size), headers=()) for n in range(count)]
    data = [
        TopicProduceData(name=TOPIC, partition_data=[PartitionProduceData(index=index, records=encode_batch(records))])
    ]
    return ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=data)


def fetch(offset: int) -> FetchRequest:
    partition = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    return FetchRequest(max_wait_ms=100, min_bytes=1, topics=[FetchTopic(topic=TOPIC, partitions=[partition])])


def measure(host: str, port: int, pid: int, seconds: float, in_flight: int) -> None:
    client = Client(host, port)
    client.call(client.frame(MetadataRequest(topics=[MetadataRequestTopic(name=TOPIC)]), 4))
    single = [client.frame(produce(0, 1, 1024), 9)]
    large = [client.frame(produce(0, 900, 1024), 9)]
    cases = {
        f"produce, 1 record, {in_flight} in flight": (single, in_flight, 1024),
        "produce, 1 record, 100 in flight": (single, 100, 1024),
        "produce, 900 records of 1 KiB, 5 in flight": (large, 5, 900 * 1024),
        "fetch, 1 MiB from the start of the log": ([client.frame(fetch(0), 11)], 1, 1 << 20),
        "metadata, one topic": ([client.frame(MetadataRequest(topics=[MetadataRequestTopic(name=TOPIC)]), 9)], 1, 0),
    }
    for name, (frames, depth, payload) in cases.items():
        client.run(frames, depth, 0.5)
        cpu, start = cpu_s(pid), time.monotonic()
        count = client.run(frames, depth, seconds)
        cpu, took = cpu_s(pid) - cpu, time.monotonic() - start
        figures = f"{count / took:10,.0f}/s {cpu / count * 1e6:8,.1f} µs CPU each"
        if payload > 10_000:
            figures += f" {count * payload / took / 1e6:8,.0f} MB/s {cpu / (count * payload / 1e9):6.2f} CPU s/GB"
        print(f"{name:45} {figures}")


def cpu_s(pid: int) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


if __name__ == "__main__":
    main()
