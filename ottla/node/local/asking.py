"""Asks the supervisor of a local cluster, from another process: see `commands` for what there is to ask."""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ottla.core.errors import OttlaError
from ottla.node.local.control import named, reachable

GRACE_S: Final = 2.0  # the supervisor keeps the time-out; this much later it is not there any more


class NotRunning(OttlaError):
    """No cluster runs in the directory."""


class CommandFailed(OttlaError):
    """The supervisor could not do it, and said why."""


def ask(directory: Path, command: str, *, timeout_s: float, **arguments: object) -> dict[str, Any]:
    """The answer, once the command has come true. Raises NotRunning, CommandFailed."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with reachable(directory) as path:
                connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            # Refused: the supervisor was killed, and its nodes ended with it.
            raise NotRunning(
                f"no cluster runs in {directory}: `ottla up{named(directory)}` starts one, --dir names another"
            ) from None
        connection.settimeout(timeout_s + GRACE_S)
        request = {"command": command, "timeout_s": timeout_s, **arguments}
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = _line(connection)
            if command == "down" and "error" not in answer:
                _until_closed(connection)
        except TimeoutError:
            raise CommandFailed(f"the cluster in {directory} does not answer") from None
        except OSError as error:
            raise CommandFailed(f"the cluster in {directory} ended meanwhile: {error}") from None
    if "error" in answer:
        raise CommandFailed(str(answer["error"]))
    return answer


def _line(connection: socket.socket) -> dict[str, Any]:
    received = b""
    while not received.endswith(b"\n"):
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError("no answer came")
        received += chunk
    answer: dict[str, Any] = json.loads(received)
    return answer


def _until_closed(connection: socket.socket) -> None:
    """The supervisor closes its connections when everything is over."""
    while connection.recv(1 << 16):
        continue


RATES: Final = ("received_bytes", "sent_bytes", "replication_received_bytes", "replication_sent_bytes")


def rates(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, float | None]:
    """What a node moved in a second, between two descriptions of it; None when it was not there both times."""
    old, new = (before or {}).get("standing"), after.get("standing")
    if before is None or old is None or new is None or before["pid"] != after["pid"]:
        return dict.fromkeys(RATES)
    seconds = after["standing_at"] - before["standing_at"]
    return {name: (new[name] - old[name]) / seconds if seconds > 0 else None for name in RATES}


def status(directory: Path, *, timeout_s: float, over_s: float = 0.5) -> dict[str, Any]:
    """How the cluster is, its traffic measured over a short time."""
    first = ask(directory, "status", timeout_s=timeout_s)
    if not any(node["standing"] for node in first["nodes"]):
        return _finished(first, {})
    time.sleep(over_s)
    second = ask(directory, "status", timeout_s=timeout_s)
    return _finished(second, {node["id"]: node for node in first["nodes"]})


def _finished(found: dict[str, Any], before: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    for node in found["nodes"]:
        node["per_second"] = rates(before.get(node["id"]), node)
        node.pop("standing_at")
    return found
