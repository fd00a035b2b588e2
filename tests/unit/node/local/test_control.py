"""The channel of a local cluster, with a supervisor that only answers."""

import json
import selectors
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ottla.node.local.asking import CommandFailed, NotRunning, ask, rates
from ottla.node.local.control import (
    LONGEST_PATH,
    SOCKET_FILE,
    AlreadyRunning,
    ControlSocket,
    Reply,
    claim,
    reachable,
)


class Answering:
    """Answers requests in a thread until it is left."""

    def __init__(self, directory: Path, answer: Mapping[str, object]) -> None:
        self.requests: list[Mapping[str, Any]] = []
        self._directory, self._answer = directory, answer
        self._up, self._down = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _take(self, request: Mapping[str, Any], reply: Reply) -> None:
        self.requests.append(request)
        reply(self._answer)

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        with claim(self._directory), ControlSocket(self._directory, selector, self._take), selector:
            self._up.set()
            while not self._down.is_set():
                for key, _ in selector.select(0.02):
                    key.data()

    def __enter__(self) -> "Answering":
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._down.set()
        self._thread.join()


def test_a_request_is_answered(tmp_path: Path) -> None:
    with Answering(tmp_path, {"ok": True}) as supervisor:
        assert ask(tmp_path, "stop", nodes=[2], timeout_s=5) == {"ok": True}
        assert (tmp_path / SOCKET_FILE).stat().st_mode & 0o777 == 0o600
    assert supervisor.requests == [{"command": "stop", "nodes": [2], "timeout_s": 5}]
    assert not (tmp_path / SOCKET_FILE).exists()


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    with Answering(tmp_path, {"error": "there is no node 9"}), pytest.raises(CommandFailed, match="no node 9"):
        ask(tmp_path, "stop", nodes=[9], timeout_s=5)


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"\xff\n"])
def test_what_is_no_request_is_told(tmp_path: Path, line: bytes) -> None:
    with Answering(tmp_path, {}), reachable(tmp_path) as path, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.settimeout(10)
        client.sendall(line)
        assert "error" in json.loads(client.recv(1 << 16))


def test_a_directory_with_a_long_name_will_do(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * LONGEST_PATH)
    with Answering(directory, {"ok": True}):
        assert ask(directory, "status", timeout_s=5) == {"ok": True}


def test_nobody_at_home(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="`ottla up --dir"):
        ask(tmp_path, "status", timeout_s=5)
    with pytest.raises(NotRunning):
        ask(tmp_path / "nowhere", "status", timeout_s=5)


def test_a_socket_that_was_left_behind_is_nobody_and_is_replaced(tmp_path: Path) -> None:
    with reachable(tmp_path) as path, socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with pytest.raises(NotRunning):
        ask(tmp_path, "status", timeout_s=5)
    with Answering(tmp_path, {"ok": True}):
        assert ask(tmp_path, "status", timeout_s=5) == {"ok": True}


def test_a_directory_has_one_cluster(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(AlreadyRunning), claim(tmp_path):
        pass
    with claim(tmp_path):
        pass


def test_rates_are_between_two_looks_at_one_process() -> None:
    def node(pid: int, at: float, count: int) -> dict[str, Any]:
        names = ("received_bytes", "sent_bytes", "replication_received_bytes", "replication_sent_bytes")
        return {"pid": pid, "standing_at": at, "standing": dict.fromkeys(names, count)}

    assert set(rates(node(1, 1.0, 100), node(1, 3.0, 500)).values()) == {200.0}
    nothing = {None}
    assert set(rates(None, node(1, 3.0, 500)).values()) == nothing
    assert set(rates(node(1, 1.0, 900), node(2, 3.0, 500)).values()) == nothing
    assert set(rates(node(1, 3.0, 500), node(1, 3.0, 500)).values()) == nothing
    assert set(rates(node(1, 1.0, 100), {"pid": 1, "standing": None}).values()) == nothing
