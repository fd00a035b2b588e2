"""`ottla chaos run` as a user runs it: interrupted in the midst of a fault, it leaves nothing behind."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ottla.cli.exit_codes import Exit
from tests.integration.leftovers import processes_of

START_S = 150
END_S = 60


@pytest.mark.slow
@pytest.mark.timeout(START_S + 2 * END_S)
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    outside, mounts = Path("/proc/self/ns/net").readlink(), Path("/proc/self/mounts").read_text()
    interfaces = sorted(os.listdir("/sys/class/net"))
    command = [sys.executable, "-m", "ottla.cli", "chaos", "run", "--faults", "partition-leader,disk-full,kill"]
    run = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    assert run.stdout is not None
    told = run.stdout

    def read() -> None:
        for line in told:
            lines.put(line)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    output = ""
    try:
        until = time.monotonic() + START_S
        while "fault 2:" not in output:
            output += lines.get(timeout=max(0.1, until - time.monotonic()))
        assert len(processes_of(tmp_path)) > 6, "there is nothing to clean up"
        run.send_signal(signal.SIGINT)
        assert run.wait(END_S) == Exit.INTERRUPTED, output
    finally:
        run.kill()
        run.wait()
        reading.join(END_S)
        told.close()
    until = time.monotonic() + 5
    while (left := processes_of(tmp_path)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mounts").read_text() == mounts
    assert sorted(os.listdir("/sys/class/net")) == interfaces
    assert Path("/proc/self/ns/net").readlink() == outside
