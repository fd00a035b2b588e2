"""Ports that are kept from one start to the next."""

import socket
from pathlib import Path

from ottla.node.local.ports import FILE, Ports


def test_what_was_learned_is_known_at_the_next_start(tmp_path: Path) -> None:
    ports = Ports(tmp_path)
    assert ports.get(1, "kafka") == 0
    ports.learn(1, {"kafka": 4001})
    ports.learn(1, {"grpc": 4002})
    ports.save()
    again = Ports(tmp_path)
    assert (again.get(1, "kafka"), again.get(1, "grpc"), again.get(2, "kafka")) == (4001, 4002, 0)


def test_what_somebody_else_listens_on_is_forgotten(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        ports = Ports(tmp_path)
        ports.learn(1, {"kafka": taken.getsockname()[1], "grpc": free})
        ports.keep_free("127.0.0.1", [1, 2])
    assert (ports.get(1, "kafka"), ports.get(1, "grpc")) == (0, free)


def test_a_damaged_file_is_no_reason_not_to_start(tmp_path: Path) -> None:
    for text in ("", "[]", '{"1": 5}', '{"x": {}}', '{"1": {"kafka": "many"}}'):
        (tmp_path / FILE).write_text(text)
        assert Ports(tmp_path).get(1, "kafka") == 0
