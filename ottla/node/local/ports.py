"""The ports of nodes that were started on any free ones, remembered in the cluster's directory.

A node that is started again has to be found where it was; so has a cluster, as far as nobody took its ports meanwhile.
"""

import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

FILE = "ports.json"


class Ports:
    """By node and listener. 0: not known."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._known: dict[int, dict[str, int]] = {}
        try:
            stored = json.loads(self._path.read_text())
            self._known = {int(number): {str(k): int(v) for k, v in of.items()} for number, of in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return  # new ports do as well

    def get(self, number: int, listener: str) -> int:
        """The port, or 0."""
        return self._known.get(number, {}).get(listener, 0)

    def learn(self, number: int, ports: Mapping[str, int]) -> None:
        """What a node listens on."""
        self._known.setdefault(number, {}).update(ports)

    def keep_free(self, host: str, numbers: Iterable[int]) -> None:
        """Forget what somebody else listens on now."""
        for number in numbers:
            known = self._known.get(number, {})
            self._known[number] = {listener: port for listener, port in known.items() if port and _is_free(host, port)}

    def save(self) -> None:
        """For the next start. Without it, that start takes other ports: no reason to fail."""
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(self._known, indent=1) + "\n")
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
