"""A file goes in, the node is killed with SIGKILL, and the file comes out with the same checksum.

`OTTLA_TEST_FILE_MIB` sets its size; the default keeps the suite quick.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from ottla.testing.cluster import Cluster

SIZE_MIB = int(os.environ.get("OTTLA_TEST_FILE_MIB", "48"))
pytestmark = pytest.mark.skipif(not shutil.which("kcat"), reason="kcat is not installed: apt-get install kcat")


def write_file(path: Path) -> str:
    """Lines of 64 bytes to 2 KiB; returns the file's SHA-256."""
    rng, digest = random.Random(1), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE_MIB):
            block = rng.randbytes(1 << 19).hex().encode()
            positions = range(0, len(block), 1024)
            lines = b"".join(block[p : p + rng.randrange(64, 1024)] + b"\n" for p in positions)
            lines += block[: (1 << 20) - len(lines) - 1] + b"\n" if len(lines) < 1 << 20 else b""
            file.write(lines)
            digest.update(lines)
    return digest.hexdigest()


def checksum_of_consumed(cluster: Cluster, topic: str) -> str:
    command = [sys.executable, "-m", "ottla.cli", "consume", topic, "--exit", "--server", cluster.grpc]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        digest = hashlib.file_digest(process.stdout, "sha256").hexdigest()  # type: ignore[arg-type]
    assert process.returncode == 0
    return digest


@pytest.mark.timeout(900)
def test_a_file_written_by_kcat_survives_a_kill(tmp_path: Path) -> None:
    source = tmp_path / "source"
    expected = write_file(source)
    with Cluster(tmp_path / "cluster") as cluster:
        command = ["kcat", "-q", "-b", cluster.bootstrap, "-P", "-t", "file", "-p", "0", "-l", str(source)]
        subprocess.run([*command, "-X", "enable.idempotence=true", "-X", "acks=all"], check=True)
        cluster.kill()  # kcat ended well, so every line is acknowledged
        cluster.start()
        assert checksum_of_consumed(cluster, "file") == expected


@pytest.mark.timeout(900)
def test_a_file_is_whole_though_the_node_is_killed_while_it_is_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    expected = write_file(source)
    failures: list[object] = []

    def delivered(error: object, _: object) -> None:
        if error:
            failures.append(error)

    with Cluster(tmp_path / "cluster") as cluster:
        settings = {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "reconnect.backoff.max.ms": 200}
        producer = Producer({**settings, "queue.buffering.max.kbytes": 16_384, "message.timeout.ms": 300_000})
        kills_left, next_kill = 3, SIZE_MIB << 18
        with source.open("rb") as lines:
            for line in lines:
                while True:
                    try:
                        producer.produce("file", line[:-1], partition=0, on_delivery=delivered)
                        break
                    except BufferError:
                        producer.poll(0.05)
                producer.poll(0)
                if kills_left and lines.tell() >= next_kill:
                    kills_left, next_kill = kills_left - 1, next_kill + (SIZE_MIB << 18)
                    cluster.kill()
                    cluster.start()
        assert producer.flush(120) == 0
        assert not failures
        assert kills_left == 0
        assert checksum_of_consumed(cluster, "file") == expected
