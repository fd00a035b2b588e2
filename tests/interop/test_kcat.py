"""kcat, as people use it in a terminal."""

import hashlib
import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = [
    pytest.mark.kcat,
    pytest.mark.skipif(not shutil.which("kcat"), reason="kcat is not installed: apt-get install kcat"),
]

WAIT_S = 60.0
PARTITIONS = 4


def kcat(*words: str, text: bytes = b"") -> bytes:
    return subprocess.run(["kcat", *words], input=text, capture_output=True, check=True, timeout=60).stdout


def test_lists_the_brokers_and_topics(bootstrap: str, new_name: Callable[[str], str]) -> None:
    topic = new_name("listed")
    kcat("-b", bootstrap, "-P", "-t", topic, text=b"created by its first record\n")
    found = json.loads(kcat("-b", bootstrap, "-L", "-J"))
    assert [b["name"] for b in found["brokers"]] == bootstrap.split(",")
    assert topic in [t["topic"] for t in found["topics"]]


def test_writes_and_reads_in_every_codec(bootstrap: str, new_name: Callable[[str], str], codec: str) -> None:
    topic = new_name(f"kcat-{codec}")
    lines = b"".join(b"%d:value %d\n" % (n, n) for n in range(2_000))
    kcat("-b", bootstrap, "-P", "-t", topic, "-p", "0", "-K", ":", "-z", codec, text=lines)
    assert kcat("-b", bootstrap, "-C", "-t", topic, "-p", "0", "-e", "-q", "-K", ":") == lines


def test_reads_back_a_file_with_the_same_checksum(bootstrap: str, new_name: Callable[[str], str]) -> None:
    topic, content = new_name("file"), random.Random(7).randbytes(8 << 20).replace(b"\n", b" ") + b"\n"
    pieces = b"\n".join(content[i : i + 65_536] for i in range(0, len(content), 65_536))
    kcat("-b", bootstrap, "-P", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", text=pieces)
    found = kcat("-b", bootstrap, "-C", "-t", topic, "-p", "0", "-e", "-q")
    assert hashlib.sha256(found.rstrip(b"\n")).digest() == hashlib.sha256(pieces.rstrip(b"\n")).digest()


def test_looks_up_offsets_by_time(bootstrap: str, new_name: Callable[[str], str]) -> None:
    topic = new_name("times")
    kcat("-b", bootstrap, "-P", "-t", topic, "-p", "0", text=b"a\nb\nc\n")
    assert f"{topic} [0] offset 3" in kcat("-b", bootstrap, "-Q", "-t", f"{topic}:0:-1").decode()
    assert f"{topic} [0] offset 0" in kcat("-b", bootstrap, "-Q", "-t", f"{topic}:0:-2").decode()
    assert f"{topic} [0] offset 0" in kcat("-b", bootstrap, "-Q", "-t", f"{topic}:0:1").decode()


def test_reads_as_a_group_and_goes_on_where_it_stopped(bootstrap: str, new_name: Callable[[str], str]) -> None:
    topic, group = new_name("grouped"), new_name("kcat-group")
    kcat("-b", bootstrap, "-P", "-t", topic, "-p", "0", text=b"1\n2\n3\n")
    read = ("-b", bootstrap, "-q", "-e", "-X", "auto.offset.reset=earliest", "-G", group, topic)
    assert sorted(kcat(*read).split()) == [b"1", b"2", b"3"]
    kcat("-b", bootstrap, "-P", "-t", topic, "-p", "0", text=b"4\n")
    assert kcat(*read).split() == [b"4"]


class Member:
    """A kcat that reads as a member of a group, and what it has read: pairs of partition and number."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        settings = ("auto.offset.reset=earliest", "session.timeout.ms=6000", "auto.commit.interval.ms=200")
        command = ["kcat", "-b", bootstrap, "-u", "-f", "%p %s\\n", *(word for one in settings for word in ("-X", one))]
        self.seen: set[tuple[int, int]] = set()
        self.process = subprocess.Popen(
            [*command, "-G", group, topic], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            partition, number = line.split()
            self.seen.add((int(partition), int(number)))

    def partitions(self, number: int) -> set[int]:
        """Those of which it has read that record."""
        return {partition for partition, one in set(self.seen) if one == number}

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(3 * WAIT_S)
def test_members_of_a_group_share_and_take_over(bootstrap: str, new_name: Callable[[str], str]) -> None:
    """Each of two has half of the partitions. One is killed; the other reads on, and nothing is left out."""
    topic, group = new_name("shared"), new_name("kcat-group")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS)])[topic].result(WAIT_S)
    written = 0

    def write_until(condition: Callable[[int], bool], what: str, *members: Member) -> None:
        """One record after the other into all partitions, until one was read as the condition says."""
        nonlocal written
        deadline = time.monotonic() + WAIT_S
        while not condition(written - 1):
            assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
            for partition in range(PARTITIONS):
                kcat("-b", bootstrap, "-P", "-t", topic, "-p", str(partition), text=b"%d\n" % written)
            written += 1
            read_until = time.monotonic() + 5
            while time.monotonic() < read_until and not _all_read(written - 1, members):
                time.sleep(0.02)

    with Member(bootstrap, group, topic) as first, Member(bootstrap, group, topic) as second:
        write_until(
            lambda n: len(first.partitions(n)) == len(second.partitions(n)) == PARTITIONS // 2,
            "each has half of the partitions",
            first,
            second,
        )
        second.process.kill()
        write_until(lambda n: len(first.partitions(n)) == PARTITIONS, "the other has them all", first)
        assert first.seen | second.seen == {(p, n) for p in range(PARTITIONS) for n in range(written)}


def _all_read(number: int, members: tuple[Member, ...]) -> bool:
    return set().union(*(member.partitions(number) for member in members)) == set(range(PARTITIONS))
