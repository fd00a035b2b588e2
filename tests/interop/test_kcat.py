"""kcat, as people use it in a terminal."""

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("kcat"), reason="kcat is not installed: apt-get install kcat")


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
